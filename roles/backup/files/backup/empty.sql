-- Drops what the present role owns in the database, but for extensions and what these have. The schema public stays,
-- with its rights, since it may be another role's.
SET LOCAL client_min_messages = warning;
SET LOCAL lock_timeout = '60s';
DO $$
DECLARE
  statement text;
BEGIN
  FOR statement IN
    SELECT format('DROP SCHEMA IF EXISTS %I CASCADE', nspname) FROM pg_namespace AS it
    WHERE nspname NOT LIKE 'pg\_%' AND nspname NOT IN ('information_schema', 'public') AND pg_has_role(nspowner, 'USAGE')
      AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_namespace'::regclass AND objid = it.oid AND deptype = 'e')
    UNION ALL
    SELECT format('DROP %s IF EXISTS %s.%I CASCADE', kind, relnamespace::regnamespace, relname)
    FROM pg_class AS it
      JOIN (VALUES ('r', 'TABLE'), ('p', 'TABLE'), ('f', 'FOREIGN TABLE'), ('v', 'VIEW'), ('m', 'MATERIALIZED VIEW'),
                   ('S', 'SEQUENCE'), ('c', 'TYPE')) AS kinds (letter, kind) ON letter = relkind::text
    WHERE relnamespace = 'public'::regnamespace AND pg_has_role(relowner, 'USAGE')
      AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = it.oid AND deptype = 'e')
    UNION ALL
    SELECT format('DROP TYPE IF EXISTS %s.%I CASCADE', typnamespace::regnamespace, typname)
    FROM pg_type AS it
    WHERE typnamespace = 'public'::regnamespace AND pg_has_role(typowner, 'USAGE') AND typtype IN ('e', 'd', 'r')
      AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_type'::regclass AND objid = it.oid AND deptype = 'e')
    UNION ALL
    SELECT format('DROP ROUTINE IF EXISTS %s.%I(%s) CASCADE', pronamespace::regnamespace, proname, pg_get_function_identity_arguments(it.oid))
    FROM pg_proc AS it
    WHERE pronamespace = 'public'::regnamespace AND pg_has_role(proowner, 'USAGE')
      AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_proc'::regclass AND objid = it.oid AND deptype IN ('e', 'i'))
  LOOP
    EXECUTE statement;
  END LOOP;
END
$$;
