"""`lakehouse mcp`: the lake for assistants, by the Model Context Protocol.

`server` says which tools there are, `answers` makes their answers from the lake, and `queries` runs SQL that an
assistant wrote in a process of its own, whose program is `child`.
"""
