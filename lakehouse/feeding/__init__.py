"""The service behind `lakehouse stream`: a feed's quotes, round by round, from the vendor to the tables. It knows no
Dagster: who wants to be told of the rounds hands in a function.
"""
