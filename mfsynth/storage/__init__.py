"""Objects in a folder or an object store, whole files on a local disk, and URLs without secrets."""
