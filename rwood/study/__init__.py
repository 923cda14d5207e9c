"""A study from its file to its report: record, stages, reruns."""
