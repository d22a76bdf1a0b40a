"""Read and write a CSV file with Arrow alone: python copy_table.py FROM TO."""

import sys

from pyarrow import csv

with csv.open_csv(sys.argv[1]) as reader:
    with csv.CSVWriter(sys.argv[2], reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)
