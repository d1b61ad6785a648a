"""Tables of initialisations compared, and of cosines of weights, with known shares and gaps."""

import numpy as np
import pandas as pd

from intrinsic_lr.claims.shared import forgetting, mixing

NAMES = ("AdamW, eta 0.01, eta lambda 0.03", "AdamW, eta 0.01, eta lambda 0.003")


def mixing_table(parts, share=0.004, early=0.5, tenfold=0.1, coupled=0.4, gap=0.5, walk=0.02):
    """Return the table of two settings of which initialisations cause a share of the distances at the end.

    Args:
        parts: kinds of comparisons of initialisations, roles of the claim.
        share: in the first role; `early` in runs that end too soon, `coupled` under Adam with L2.
        tenfold: of what the tenfold product causes.
        gap: of cosines within less across, of the networks; `walk` those of walks of noise alone.
    """
    rows = []
    ends = {mixing.MIXING: share, mixing.SHORT: early, mixing.COUPLED: coupled}
    for part in parts:
        for name in NAMES if part == mixing.MIXING else NAMES[:1]:
            for step, time in ((50, 1.0), (400, 8.0)):
                rows.append((part, name if part == mixing.MIXING else f"{part}, {name}", step, time, ends[part]))
    rows.append((mixing.RATE, f"{NAMES[0]} against 0.003", 400, 8.0, tenfold))
    table = []
    for part, name, step, time, value in rows:
        for distance in forgetting.DISTANCES:
            table.append({
                "part": part, "setting": name, "point": f"{part} {name}", "other_point": "", "distance": distance,
                "step": step, "intrinsic_time": time, "initialisations": 16, "runs": 128, "missing": 0,
                "share": value if time > 1 else 0.6, "share_low": value - 0.004, "share_high": value + 0.004,
            })  # fmt: skip
    generator = np.random.default_rng(0)
    cosines = []
    for part, apart in ((mixing.WEIGHTS, gap), (mixing.WALK, walk)):
        for name in NAMES:
            for relation, mean in ((mixing.WITHIN, apart), (mixing.ACROSS, 0.0)):
                for replicate in range(16):
                    cosine = mean + 0.02 * generator.standard_normal()
                    cosines.append((part, name, 0.03, 4.0, relation, replicate, cosine))
    columns = ["part", "setting", "intrinsic_lr", "lag", "relation", "replicate", "cosine"]
    return pd.concat([forgetting.as_table(table), pd.DataFrame(cosines, columns=columns)], ignore_index=True)
