#!/usr/bin/env python3
"""Takes files out of a wheel or a source distribution without unpacking the rest.

usage: unpack.py ARCHIVE PATTERN OUT      OUT: a file, or a directory for all files that match
"""
import fnmatch
import os
import shutil
import sys
import tarfile
import zipfile


def members(path):
    """Yields the name of each file in the archive with a function that opens it."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                yield name, lambda: archive.open(name)
    else:
        with tarfile.open(path) as archive:
            for member in archive:
                if member.isfile():
                    yield member.name, lambda: archive.extractfile(member)


def main():
    path, pattern, out = sys.argv[1:]
    found = 0
    for name, opened in members(path):
        if fnmatch.fnmatchcase(name, pattern):
            target = os.path.join(out, os.path.basename(name)) if os.path.isdir(out) else out
            with opened() as source, open(target, "wb") as file:
                shutil.copyfileobj(source, file)
            found += 1
    if not found:
        sys.exit(f"unpack.py: nothing in {path} matches {pattern}")


main()
