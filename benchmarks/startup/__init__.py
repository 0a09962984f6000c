"""How long starting takes and what an idle platform weighs, beside bare peers in the same run."""
