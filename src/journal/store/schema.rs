//! What the file looks like, and how it came to look like that.

use std::time::SystemTime;

use rusqlite::{Connection, TransactionBehavior};

use super::table::nanos;
use super::trouble::Trouble;

/// Each step leads from the version of its place in the list to the next one. What was released is never changed, only followed; and no
/// step ever takes `migrations` away, so that whoever knows less can say who knows more.
pub(super) const STEPS: &[&str] = &[include_str!("schema/1.sql")];

/// Brings the file to the present version, all at once or not at all.
///
/// # Errors
/// Fails, and has changed nothing, if a later crihook has written it.
pub(super) fn migrate(db: &mut Connection, steps: &[&str]) -> Result<(), Trouble> {
    refuse_newer(db, steps)?;
    if version(db)? == steps.len() {
        return Ok(());
    }
    let step = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another process may have done it meanwhile.
    for (known, sql) in steps.iter().enumerate().skip(version(&step)?) {
        step.execute_batch(sql)?;
        let written = (known + 1, env!("CARGO_PKG_VERSION"), nanos(SystemTime::now()));
        step.execute("INSERT INTO migrations (version, crihook, at) VALUES (?1, ?2, ?3)", written)?;
    }
    step.pragma_update(None, "user_version", steps.len())?;
    step.commit()?;
    Ok(())
}

/// Fails if a later crihook has written the file.
pub(super) fn refuse_newer(db: &Connection, steps: &[&str]) -> Result<(), Trouble> {
    let (found, known) = (version(db)?, steps.len());
    if found <= known {
        return Ok(());
    }
    let by = "SELECT crihook FROM migrations ORDER BY version DESC LIMIT 1";
    let by = db.query_row(by, [], |row| row.get(0)).ok();
    Err(Trouble::Newer { found, known, by })
}

fn version(db: &Connection) -> rusqlite::Result<usize> {
    db.pragma_query_value(None, "user_version", |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "CREATE TABLE migrations (version, crihook, at); CREATE TABLE a (x)";

    #[test]
    fn an_older_file_is_brought_up_to_date_step_by_step_and_keeps_what_it_holds() {
        let mut db = Connection::open_in_memory().unwrap();
        let steps = [FIRST, "ALTER TABLE a ADD COLUMN y DEFAULT 7", "CREATE TABLE b (z)"];
        migrate(&mut db, &steps[..1]).unwrap();
        db.execute("INSERT INTO a VALUES (1)", []).unwrap();
        migrate(&mut db, &steps).unwrap();
        let kept: (i64, i64) = db.query_row("SELECT x, y FROM a", [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        assert_eq!(kept, (1, 7));
        migrate(&mut db, &steps).unwrap();
    }

    #[test]
    fn a_step_that_fails_leaves_the_file_as_it_was() {
        let mut db = Connection::open_in_memory().unwrap();
        migrate(&mut db, &[FIRST]).unwrap();
        migrate(&mut db, &[FIRST, "CREATE TABLE b (x)", "no SQL"]).unwrap_err();
        assert!(!db.table_exists(None, "b").unwrap());
        migrate(&mut db, &[FIRST, "CREATE TABLE b (x)"]).unwrap();
    }

    #[test]
    fn a_file_of_a_later_version_is_left_alone() {
        let mut db = Connection::open_in_memory().unwrap();
        db.pragma_update(None, "user_version", 9).unwrap();
        assert!(matches!(migrate(&mut db, STEPS), Err(Trouble::Newer { found: 9, known: 1, by: None })));
    }
}
