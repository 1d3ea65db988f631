# Before the first job: what would be lost is told, and nothing that is another run's or took long is replaced unasked.


onstart:
    try:
        guard_others(workflow.dag, PLACES, CONFIG)
        if line := retraining(workflow.dag):
            print(f"unirefine: warning: {line}", file=sys.stderr)
        stages.write_shared_stages(Path(RESULTS), PLACES)
        # held by this process until it ends, however it ends: so `unirefine status`, which looks at local results,
        # knows that it runs
        if not BUCKET:
            hold(Path(RESULTS))
    except UserError as error:
        print(f"unirefine: error: {error.line()}", file=sys.stderr)
        raise SystemExit(1)
