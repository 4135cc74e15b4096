"""Objects in a folder or an object store, whole files on a local disk, and URLs without secrets.

`store` is what others use, on a `connection` with its `listing` and `errors`; `atomic` is the only
writer of whole files and folders, `digests` what bytes and files are known by.
"""
