"""What the tests of the server package share: PostgreSQL, an identity provider, and running servers."""
