"""Files that are DICOM, or not: which there are, what each is, its head and its end."""
