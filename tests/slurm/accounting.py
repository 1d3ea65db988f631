"""Slurm's accounting for the virtual cluster: a MariaDB server, and slurmdbd's settings for it."""

import secrets
import subprocess
from pathlib import Path

SLURMDBD_CONF = """\
AuthType=auth/munge
AuthInfo=socket={directory}/munge/socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={port}
SlurmUser={user}
LogFile={directory}/slurmdbd.log
PidFile={directory}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={database}
StorageUser=slurm
StoragePass={password}
StorageLoc=slurm
"""


def write_settings(directory: Path, user: str, port: int, database: int) -> None:
    """slurmdbd.conf, and the SQL that makes its user when the database server starts. Ports on 127.0.0.1."""
    password = secrets.token_hex(16)
    settings = directory / "slurmdbd.conf"
    settings.touch(mode=0o600)  # slurmdbd refuses a file that others can read
    settings.write_text(
        SLURMDBD_CONF.format(directory=directory, user=user, port=port, database=database, password=password)
    )
    sql = directory / "slurm.sql"
    sql.touch(mode=0o600)
    sql.write_text(f"GRANT ALL ON *.* TO 'slurm'@'127.0.0.1' IDENTIFIED BY '{password}';\n")


def create_database(directory: Path, user: str, program: str) -> None:
    """An empty MariaDB in `directory/mariadb`. Raises RuntimeError with what the program said."""
    command = [program, "--no-defaults", f"--datadir={directory}/mariadb", f"--user={user}", "--skip-test-db"]
    done = subprocess.run([*command, "--skip-name-resolve"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"mariadb-install-db: {(done.stderr or done.stdout)[-1000:]}")


def server(directory: Path, user: str, port: int) -> list[str]:
    """The command line of its server, which nobody but this machine reaches."""
    options = ["--no-defaults", f"--datadir={directory}/mariadb", f"--user={user}", f"--port={port}"]
    options += [
        "--bind-address=127.0.0.1",
        f"--socket={directory}/mariadb.socket",
        f"--pid-file={directory}/mariadb.pid",
    ]
    options += [f"--init-file={directory}/slurm.sql", "--skip-name-resolve", "--innodb-buffer-pool-size=32M"]
    return ["mariadbd", *options, "--innodb-flush-log-at-trx-commit=0"]
