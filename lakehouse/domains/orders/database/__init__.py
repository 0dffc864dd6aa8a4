"""The database of the orders: schema `orders`, and what each service does in one transaction.

Nothing here knows the engine that runs the saga (`lakehouse.domains.orders.saga`).
"""
