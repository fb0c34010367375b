"""The report: run directories and study records to one self-contained HTML page, Korean and English."""
