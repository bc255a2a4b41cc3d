"""Numbers of rows in all tables of the stack, before and after something."""

from tests.lib.stack import Stack

DATABASES = ("mlflow", "mlflow_auth", "keycloak")
COUNT = """
    SELECT concat_ws('.', current_database(), table_schema, table_name),
           (xpath('/row/rows/text()', query_to_xml(
              format('SELECT count(*) AS rows FROM %I.%I', table_schema, table_name), false, true, '')))[1]::text
    FROM information_schema.tables
    WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema')
"""
# Tables whose owners delete rows at any time.
SHRINKING = {
    "keycloak.public.offline_user_session": "logins, until they end or are idle for too long",
    "keycloak.public.offline_client_session": "the same, for each client of a login",
    "keycloak.public.revoked_token": "until the token would have expired",
    "mlflow_auth.public.auth_sessions": "logins, until they end or expire",
    "mlflow_auth.public.auth_state": "logins that wait for the identity provider's answer",
    "mlflow.public.job_locks": "held while a job runs",
    "mlflow.public.scheduler_leases": "held for the length of a turn",
}


def rows(stack: Stack) -> dict[str, int]:
    """Return the number of rows of each table, by "database.schema.table"."""
    return {table: int(number) for database in DATABASES for table, number in stack.sql(database, COUNT)}


def fewer(before: dict[str, int], after: dict[str, int]) -> dict[str, tuple[int, int | None]]:
    """Return the tables with fewer rows than before, whose owners do not delete any, with both numbers."""
    both = {table: (number, after.get(table)) for table, number in before.items() if table not in SHRINKING}
    return {table: (one, two) for table, (one, two) in both.items() if two is None or two < one}
