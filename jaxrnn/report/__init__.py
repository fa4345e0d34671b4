"""A page about runs, to look at: `python -m jaxrnn.report RUN_DIR`."""

from jaxrnn.report.page import write_report as write_report
