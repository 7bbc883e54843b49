"""Where images and labels come from, and how several data sets become one stream of batches.

A source reads an `ImageSet`; tasks take their labels from its columns; `load.load_data` splits,
decodes and resizes; `pipeline.Data` makes batches. Nothing is imported here, so that reading a
config or a source loads no torch.
"""
