"""System calls that fail."""

import ctypes
import platform
import struct

SYSTEM_CALLS = {
    "x86_64": (0xC000003E, {"fsync": (74, 75), "rename": (82, 264, 316)}),
    "aarch64": (0xC00000B7, {"fsync": (82, 83), "rename": (38, 276)}),
}


def failing_calls(call: str, number: int) -> None:
    """Make `call` (fsync or rename) fail with errno `number` in this process and its children from now on.

    A seccomp filter does it, so no privileges are needed, and every library is affected.
    """
    machine, calls = SYSTEM_CALLS[platform.machine()]
    load, equal, end = 0x20, 0x15, 0x06
    numbers = calls[call]
    program = [(load, 0, 0, 4), (equal, 0, len(numbers) + 1, machine), (load, 0, 0, 0)]
    program += [(equal, len(numbers) - index, 0, each) for index, each in enumerate(numbers)]
    program += [(end, 0, 0, 0x7FFF0000), (end, 0, 0, 0x00050000 | number)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in program))
    described = ctypes.create_string_buffer(struct.pack("HP", len(program), ctypes.addressof(code)))
    system = ctypes.CDLL(None, use_errno=True)
    for arguments in ((38, 1, 0, 0, 0), (22, 2, ctypes.c_void_p(ctypes.addressof(described)), 0, 0)):
        if system.prctl(*arguments):
            raise OSError(ctypes.get_errno(), "prctl")
