"""Images in tar shards, in WebDataset's layout: an index of the shards, images by position, and the order that suits a stream.

A sample is what has one key: the path of its members in the tar up to the first dot of the file name. It has an image
(`.jpg`, `.jpeg`, `.png` or `.webp`) and a label: `.cls` with the number or the name of its class, or `.json` with a "label".
"""
