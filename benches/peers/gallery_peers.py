#!/usr/bin/env python3
"""Exact search of the peers, on the embeddings that benches/galleries.rs wrote, on one thread.

Loads raw float32 rows and queries, prints one line of JSON with versions and memory, then for every line
on standard input ("faiss", "usearch") answers all queries, one at a time as faces come, and prints the
milliseconds of each query and its nearest row as one line of JSON. With --hnsw it measures usearch's
approximate index instead: milliseconds a query and the share of nearest rows that it finds.
"""

import argparse
import json
import os
import sys
import time

import faiss
import numpy as np
import usearch
from usearch.index import Index, MetricKind, search


def resident():
    """Resident memory in bytes."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def timed(ask, queries):
    times, nearest = [], []
    for i in range(len(queries)):
        query = queries[i : i + 1]
        start = time.perf_counter()
        row = ask(query)
        times.append((time.perf_counter() - start) * 1e3)
        nearest.append(int(row))
    return {"ms": times, "nearest": nearest}


def hnsw(rows, queries, exact, k):
    index = Index(ndim=rows.shape[1], metric="ip", dtype="f16")
    before, start = resident(), time.perf_counter()
    index.add(np.arange(len(rows)), rows, threads=1)
    report = {"build_s": time.perf_counter() - start, "rss": resident() - before}
    answers = timed(lambda q: index.search(q[0], k, threads=1).keys[0], queries)
    found = np.mean(np.array(answers["nearest"]) == np.array(exact["nearest"]))
    report |= {"ms": float(np.median(answers["ms"])), "top1": float(found)}
    report["exact_ms"] = float(np.median(exact["ms"]))
    return report


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", help="raw float32 [N, D]")
    parser.add_argument("queries", help="raw float32 [Q, D]")
    parser.add_argument("--dimensions", type=int, default=128)
    parser.add_argument("--neighbors", type=int, default=6)
    parser.add_argument("--hnsw", action="store_true", help="measure the approximate index, print it and end")
    args = parser.parse_args()

    faiss.omp_set_num_threads(1)
    k = args.neighbors
    rows = np.fromfile(args.rows, np.float32).reshape(-1, args.dimensions)
    queries = np.fromfile(args.queries, np.float32).reshape(-1, args.dimensions)
    before = resident()
    flat = faiss.IndexFlatIP(args.dimensions)
    flat.add(rows)
    flat.search(queries[:1], k)
    grown = resident() - before
    peers = {
        "faiss": lambda q: flat.search(q, k)[1][0, 0],
        "usearch": lambda q: search(rows, q[0], k, MetricKind.IP, exact=True, threads=1).keys[0],
    }
    if args.hnsw:
        print(json.dumps(hnsw(rows, queries, timed(peers["faiss"], queries), k)))
        return
    about = {"faiss": faiss.__version__, "usearch": usearch.__version__, "bytes": rows.nbytes, "rss": grown}
    print(json.dumps(about), flush=True)
    for line in sys.stdin:
        print(json.dumps(timed(peers[line.strip()], queries)), flush=True)


if __name__ == "__main__":
    main()
