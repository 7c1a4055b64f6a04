"""Release: the warehouse as files that anybody can read, in a folder or an object store.

Belongs here: what a release holds, how its tables are divided into files, its manifest, its signature, and
checking one offline.
Does not belong here: how rows are made (`load`, `model`), and the lake's own files, which are checked in `integrity`.
"""
