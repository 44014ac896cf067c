//! What the file looks like, and how it came to look like that.

use rusqlite::{Connection, TransactionBehavior};

use super::trouble::Trouble;

/// Each step leads from the version of its place in the list to the next one. What was released is never changed, only followed.
pub(super) const STEPS: &[&str] = &[include_str!("schema/1.sql")];

/// The file's version. Reads it, and changes nothing.
///
/// # Errors
/// Fails if a later crihook has written it.
pub(super) fn version(db: &Connection, steps: &[&str]) -> Result<usize, Trouble> {
    let found: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = i64::try_from(steps.len()).unwrap_or(i64::MAX);
    if found > known { Err(Trouble::Newer { found, known }) } else { Ok(usize::try_from(found).unwrap_or(0)) }
}

/// Brings the file to the present version, all at once or not at all.
///
/// # Errors
/// As [`version`]; and it has changed nothing.
pub(super) fn migrate(db: &mut Connection, steps: &[&str]) -> Result<(), Trouble> {
    if version(db, steps)? == steps.len() {
        return Ok(());
    }
    let step = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another process may have done it meanwhile.
    let found = version(&step, steps)?;
    for sql in steps.iter().skip(found) {
        step.execute_batch(sql)?;
    }
    step.pragma_update(None, "user_version", i64::try_from(steps.len()).unwrap_or(i64::MAX))?;
    step.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_file_is_brought_up_to_date_step_by_step_and_keeps_what_it_holds() {
        let mut db = Connection::open_in_memory().unwrap();
        let steps = ["CREATE TABLE a (x)", "ALTER TABLE a ADD COLUMN y DEFAULT 7", "CREATE TABLE b (z)"];
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
        migrate(&mut db, &["CREATE TABLE a (x)"]).unwrap();
        migrate(&mut db, &["CREATE TABLE a (x)", "CREATE TABLE b (x)", "no SQL"]).unwrap_err();
        assert!(!db.table_exists(None, "b").unwrap());
        migrate(&mut db, &["CREATE TABLE a (x)", "CREATE TABLE b (x)"]).unwrap();
    }

    #[test]
    fn a_file_of_a_later_version_is_left_alone() {
        let mut db = Connection::open_in_memory().unwrap();
        db.pragma_update(None, "user_version", 9).unwrap();
        assert!(matches!(migrate(&mut db, STEPS), Err(Trouble::Newer { found: 9, known: 1 })));
    }
}
