def write_report(record, folder, retrain):
    return folder / "sweep.html"
