"""Compare 500 with 500 cells over 100,000 peaks; writes time and peak memory as JSON."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import anndata
import mudata
import numpy as np
import scipy.sparse as sp
import torch

import atacvi

N_CELLS, N_GENES, N_PEAKS = 1000, 200, 100_000


def peak_memory_gb() -> float:
    """Most memory of this process; ``ru_maxrss`` would begin with that of the one that started it."""
    status = Path("/proc/self/status")
    if status.exists():
        (peak,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(peak.split()[1]) / 1024**2
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


def main() -> None:
    torch.set_num_threads(2)
    rng = np.random.default_rng(0)
    atac = sp.random(N_CELLS, N_PEAKS, 0.026, format="csr", rng=rng, dtype=np.float32)
    atac.data[:] = 1
    # Every peak and every gene is seen, as the border asks for.
    atac = sp.csr_matrix(atac + sp.eye(N_CELLS, N_PEAKS, dtype=np.float32))
    seen = np.asarray(atac.sum(0)).ravel() > 0
    peaks = anndata.AnnData(atac)
    peaks.var_names = [f"chr1:{100 * i}-{100 * i + 50}" for i in range(N_PEAKS)]
    genes = anndata.AnnData(sp.csr_matrix(rng.poisson(1.0, (N_CELLS, N_GENES)).astype("float32")))
    mdata = mudata.MuData({"rna": genes, "atac": peaks[:, seen].copy()})
    mdata.obs["group"] = np.repeat(["a", "b"], N_CELLS // 2)
    atacvi.MultiViewModel.setup_mudata(mdata)
    model = atacvi.MultiViewModel(mdata, n_clusters=4)
    model.is_trained_ = True
    model.module.eval()
    model.module.atac_median_depth.fill_(2600.0)
    model.module.atac_head.offset.data.fill_(-np.log(N_PEAKS))
    start, cpu = time.perf_counter(), time.process_time()
    model.differential_accessibility(groupby="group", group1="a", group2="b", silent=True)
    measured = {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - cpu,
        "rss_gb": peak_memory_gb(),
    }
    sys.stdout.write(json.dumps(measured) + "\n")


if __name__ == "__main__":
    main()
