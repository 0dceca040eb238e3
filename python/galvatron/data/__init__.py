"""Tokenizes text into the indexed datasets that `launch --data PREFIX` reads: python -m galvatron.data.

reading.py    documents of text, JSONL and parquet files, one after another
tokenizing.py what the tokenizer makes of a document, and which of its tokens are labels
indexed.py    PREFIX.bin and PREFIX.idx, Megatron's format
__main__.py   the command line
"""
