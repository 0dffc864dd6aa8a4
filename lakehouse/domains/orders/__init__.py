"""Orders: a saga of five services on a durable engine, with PostgreSQL as its store."""
