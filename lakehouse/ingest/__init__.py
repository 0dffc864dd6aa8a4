"""Outside to raw, exactly once: what a source offers is listed, read, typed and sorted into good and refused rows, and
the ledger says what was taken.
"""
