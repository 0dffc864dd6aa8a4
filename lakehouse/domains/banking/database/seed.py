"""Plays a small bank: five branches, employees, customers, accounts, cards, loans, loan payments and holds.

The first five accounts are customers' in USD; the bank's own follow. Opening balances are entries against the bank's
account OPENING-USD, so that every balance is the sum of its entries. Each request has a fixed key: seeding twice
changes nothing.
"""

from __future__ import annotations

from typing import Any

from lakehouse.domains.banking.database.calls import Bank

_BRANCHES = (
    ("Harbour", "Hamburg"),
    ("Old Town", "Vienna"),
    ("Riverside", "London"),
    ("Market Square", "Kraków"),
    ("Station", "Zürich"),
)
_EMPLOYEES = ("Ada Okafor", "Bruno Keller", "Chiara Rossi", "Dmitri Novak", "Elif Demir")
_CUSTOMERS = (
    # name, type, minimum balance, type of account, opening balance, type of card, type of loan
    ("Maria Schulz", "Individual", "0.00", "Checking", "1000.00", "Debit", "Personal"),
    ("Tidewater Trading", "Corporate", "100.00", "Savings", "1500.00", "Credit", "Business"),
    ("Jonas Lindqvist", "VIP", "50.00", "Investment", "2000.00", "Platinum", "Mortgage"),
    ("Bakery Kowalski", "SME", "25.00", "Credit", "2500.00", "Gold", "Auto"),
    ("Town of Elmsford", "Government", "0.00", "Checking", "3000.00", "Prepaid", "Education"),
)
OWN_ACCOUNTS = ("Cash", "Opening", "Interest", "Loans", "Liquidity")


def seed(bank: Bank) -> int:
    """Seeds the bank; returns how many requests were new.

    Raises:
        Refused: the bank has other rows under the same keys.
        DatabaseUnavailable: the database doesn't answer, or has no schema `bank`.
    """
    new = 0

    def call(function: str, key: str, **request: Any) -> dict[str, Any]:
        nonlocal new
        answer = bank.call(function, {"key": f"seed {key}", **request})
        new += not answer["replayed"]
        return answer

    branches = [call("add_branch", f"branch {city}", name=name, city=city)["branch"] for name, city in _BRANCHES]
    for branch, name in zip(branches, _EMPLOYEES, strict=True):
        call("add_employee", f"employee {name}", branch=branch, name=name, position="Adviser")
    accounts = []
    for branch, (name, kind, minimum, account, *_) in zip(branches, _CUSTOMERS, strict=True):
        email = f"{name.lower().replace(' ', '.')}@example.com"
        customer = call("open_customer", f"customer {name}", name=name, type=kind, email=email, minimum=minimum)
        # Without a minimum until the opening balance is there: the bank's own accounts come after these.
        accounts.append(
            call(
                "open_account",
                f"account {name}",
                customer=customer["customer"],
                branch=branch,
                type=account,
                currency="USD",
                minimum="0.00",
            )["account"]
        )
    for purpose in OWN_ACCOUNTS:
        call("open_account", f"own account {purpose}", purpose=purpose, currency="USD")
    for number, (name, _, _, _, opening, card, loan) in zip(accounts, _CUSTOMERS, strict=True):
        entries = [{"account": number, "amount": opening}, {"account": "OPENING-USD", "amount": f"-{opening}"}]
        ((_, replayed),) = bank.post([{"key": f"seed opening {name}", "type": "Deposit", "entries": entries}])
        new += not replayed
        call("set_minimum", f"minimum {name}", account=number, minimum=None)
        call("issue_card", f"card {name}", account=number, type=card, last_four="4242", expires_on="2031-12-31")
        granted = call(
            "grant_loan",
            f"loan {name}",
            account=number,
            type=loan,
            principal="1200.00",
            annual_rate="6",
            months=12,
        )
        call("pay_loan", f"loan payment {name}", loan=granted["loan"], account=number, amount="106.00")
        hold = call("place_hold", f"hold {name}", account=number, amount="20.00")
        call("release_hold", f"release of hold {name}", hold=hold["hold"])
    return new
