# Before the first job: replace nothing of another run, and no long training, unasked.


onstart:
    try:
        plan = Plan(workflow)
        refuse_rerun_of_base(plan, SHARED, CONFIG)
        if line := retraining(plan):
            print(f"unirefine: warning: {printable(line)}", file=sys.stderr)
        stages.write_shared_stages(Path(PATHS.results), SHARED)
        # for `unirefine status`, which looks at local results
        if not CALL.bucket:
            mark_running(Path(PATHS.results))
    except UserError as error:
        print(f"unirefine: error: {error.line()}", file=sys.stderr)
        raise SystemExit(1)
