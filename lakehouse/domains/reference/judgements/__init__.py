"""Judgements: which legal entity a name stands for, as proposed by similarity and decided by a person."""
