"""Fine-tune an ESM-2 on a table of labels: split by homology, baselines in the same table, intervals over clusters.

transformers, peft and accelerate train; scikit-learn fits the baselines.
"""
