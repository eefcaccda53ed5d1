//! Makes a store as large as years of builds would.

use std::path::Path;

/// What is put in: the table with its columns, and how to make another row of one that is there.
const COPIES: [(&str, &str, &str); 4] = [
    (
        "records (key, step, name, outputs, saved, boot)",
        "records",
        "randomblob(32), randomblob(32), name, outputs, saved, boot",
    ),
    ("steps (own, likeness, detail, saved)", "steps", "randomblob(32), likeness || ' ' || n, detail, saved"),
    (
        "layers (diff_id, content, created, imported, saved, boot)",
        "layers",
        "randomblob(32), content, created, imported, saved, boot",
    ),
    ("blobs (digest, size, saved, boot)", "blobs", "randomblob(32), size, saved, boot"),
];

/// Adds so many records and layers to a store that has some: rows that look like theirs, and a folder for each layer.
pub(crate) fn fill(root: &Path, records: usize, layers: usize) {
    let mut database = rusqlite::Connection::open(root.join("kiln.db")).unwrap();
    let transaction = database.transaction().unwrap();
    for ((into, from, columns), count) in COPIES.iter().zip([records, records, layers, layers]) {
        let insert = format!(
            "WITH RECURSIVE count(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM count WHERE n < {count})
             INSERT INTO {into} SELECT {columns} FROM count, (SELECT * FROM {from} LIMIT 1)"
        );
        transaction.execute(&insert, []).unwrap();
    }
    let digests: Vec<[u8; 32]> = {
        let mut query = transaction.prepare("SELECT diff_id FROM layers").unwrap();
        query.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    };
    transaction.commit().unwrap();
    database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    for digest in digests {
        let name: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        std::fs::create_dir_all(root.join("layers").join(name).join("files")).unwrap();
    }
}
