//! The tables and functions: their text, and how they come to be there.

use tokio_postgres::{Client, error::SqlState, types::Type};

use super::{config::SchemaName, errors::Failure, probe::Facts};

/// The version that the SQL files make and that this code needs at least.
const VERSION: i32 = 1;

const FILES: [&str; 3] = [
    include_str!("schema/tables.sql"),
    include_str!("schema/calls.sql"),
    include_str!("schema/upkeep.sql"),
];

/// The whole SQL for a schema of this name, for an administrator to run: in one transaction, as often as they like.
pub fn schema_sql(schema: &SchemaName) -> String {
    let sql = FILES.concat().replace("\"pawl\"", &schema.quoted());
    format!("BEGIN;\n{sql}COMMIT;\n")
}

/// What a role needs that did not make the schema itself, for an administrator to run.
pub fn grants_sql(schema: &SchemaName, role: &str) -> String {
    let schema = schema.quoted();
    let role = format!("\"{}\"", role.replace('"', "\"\""));
    format!(
        "GRANT USAGE ON SCHEMA {schema} TO {role};\n\
         GRANT SELECT ON {schema}.schema_version TO {role};\n\
         GRANT SELECT, INSERT, UPDATE, DELETE ON {schema}.keys, {schema}.holds, {schema}.places, \
         {schema}.abandoned, {schema}.sessions TO {role};\n\
         GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {schema} TO {role};\n"
    )
}

/// Makes what is missing. Sidecars that start together wait for one another.
pub(super) async fn ensure(
    client: &Client,
    schema: &SchemaName,
    facts: &Facts,
) -> Result<(), Failure> {
    if facts.has_tables && is_current(client, schema).await? {
        return Ok(());
    }
    if facts.is_read_only {
        return Err(Failure::ReadOnly);
    }
    let quoted = schema.quoted();
    // An error leaves the transaction open; the connection is given up then.
    client
        .batch_execute(&format!(
            "BEGIN; SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('pawl schema {quoted}', 0))"
        ))
        .await?;
    let made = async {
        // Read from the catalog itself: `to_regclass` may answer from a cache that is older than the lock.
        let row = client
            .query_typed(
                "SELECT EXISTS (SELECT FROM pg_catalog.pg_class c \
                 JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
                 WHERE n.nspname = $1 AND c.relname = 'schema_version')",
                &[(&schema.as_str(), Type::TEXT)],
            )
            .await?;
        let is_there = row.first().is_some_and(|row| row.get(0));
        if !(is_there && is_current(client, schema).await?) {
            client
                .batch_execute(&FILES.concat().replace("\"pawl\"", &quoted))
                .await?;
        }
        Ok::<_, Failure>(client.batch_execute("COMMIT").await?)
    };
    match made.await {
        Err(Failure::Server(source))
            if source.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) =>
        {
            Err(Failure::NoSchema {
                schema: schema.as_str().to_owned(),
                source,
            })
        }
        result => result,
    }
}

async fn is_current(client: &Client, schema: &SchemaName) -> Result<bool, Failure> {
    let sql = format!(
        "SELECT coalesce(max(version), 0) FROM {}.schema_version",
        schema.quoted()
    );
    let rows = client.query_typed(&sql, &[]).await?;
    let version: i32 = rows
        .first()
        .ok_or(Failure::Protocol("no version"))?
        .try_get(0)?;
    Ok(version >= VERSION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_schema_name_is_everywhere() {
        let sql = schema_sql(&SchemaName::try_new("locks").unwrap());
        assert!(!sql.contains("\"pawl\""));
        assert!(sql.contains("CREATE TABLE IF NOT EXISTS \"locks\".keys"));
        assert!(sql.contains("CREATE OR REPLACE FUNCTION \"locks\".purge"));
    }

    #[test]
    fn what_sidecars_call_does_not_look_at_the_callers_search_path() {
        let sql = FILES.concat();
        for name in [
            "acquire",
            "renew",
            "release",
            "release_next",
            "abandon",
            "settle",
            "fence",
            "inspect",
            "open_session",
            "reap",
            "orphans",
            "purge",
        ] {
            let start = sql
                .find(&format!("FUNCTION \"pawl\".{name}("))
                .expect("the function is there");
            let head = &sql[start..start + sql[start..].find("$$").expect("it has a body")];
            assert!(
                head.contains("SET search_path = pg_catalog, pg_temp"),
                "{name}"
            );
        }
    }

    #[test]
    fn the_documents_have_what_an_administrator_needs() {
        let docs = include_str!("../../../../docs/backends.md");
        assert!(docs.contains(&grants_sql(&SchemaName::default(), "app")));
        assert!(docs.contains("cat tables.sql calls.sql upkeep.sql | psql"));
    }

    #[test]
    fn a_role_is_quoted() {
        let sql = grants_sql(&SchemaName::default(), "a\"b");
        assert!(sql.contains("TO \"a\"\"b\";"));
    }
}
