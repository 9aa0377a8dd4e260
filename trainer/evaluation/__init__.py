"""Evaluation of every task: loss on the gold answers, and greedy answers judged by the metric."""
