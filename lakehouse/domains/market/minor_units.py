"""Markets whose shares are quoted in hundredths of the currency: pence, cents, agorot."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MinorUnit:
    """A hundredth of a currency: the vendors' two codes for it, and what it is called."""

    code: str
    other_code: str
    currency: str
    name: str


_PENCE = MinorUnit("GBX", "GBp", "GBP", "pence (GBX)")
_BY_MIC = {
    **dict.fromkeys(("XLON", "AIMX", "CHIX", "TRQX", "AQXE"), _PENCE),
    "XJSE": MinorUnit("ZAC", "ZAc", "ZAR", "cents (ZAc)"),
    "XTAE": MinorUnit("ILA", "ILa", "ILS", "agorot (ILA)"),
}


def minor_unit(mic: str) -> MinorUnit | None:
    """The hundredths in which a venue's shares are quoted; None for other venues."""
    return _BY_MIC.get(mic)
