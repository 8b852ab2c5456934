"""Layout regression: states of pages, pictured on the stage that recordings use, held against baselines."""
