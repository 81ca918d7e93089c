// What programs do with lib/pq, in the order of tests/tests/gateway/drivers.rs.
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/lib/pq"
)

func must(err error) {
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
}

func state(err error) string {
	var report *pq.Error
	if errors.As(err, &report) {
		return string(report.Code)
	}
	return fmt.Sprint(err)
}

func shown(value sql.NullString) string {
	if value.Valid {
		return value.String
	}
	return "NULL"
}

func main() {
	db, err := sql.Open("postgres", "")
	must(err)
	db.SetMaxOpenConns(1)

	cards, err := db.Query("SELECT id, pan, cvv FROM cards ORDER BY id")
	must(err)
	for cards.Next() {
		var id int
		var pan, cvv sql.NullString
		must(cards.Scan(&id, &pan, &cvv))
		fmt.Println("card", id, shown(pan), shown(cvv))
	}
	must(cards.Err())

	prepared, err := db.Prepare("SELECT note FROM orders WHERE id = $1")
	must(err)
	for _, number := range []int{1, 2} {
		var note string
		must(prepared.QueryRow(number).Scan(&note))
		fmt.Println(note)
	}

	var big sql.NullString
	must(db.QueryRow("SELECT big FROM loose WHERE id = $1", 1).Scan(&big))
	fmt.Println("big", shown(big))

	writing, err := db.Begin()
	must(err)
	copying, err := writing.Prepare(pq.CopyIn("orders", "id", "note"))
	must(err)
	for _, number := range []int{1001, 1002, 1003} {
		_, err = copying.Exec(number, "copied")
		must(err)
	}
	copied, err := copying.Exec()
	must(err)
	must(copying.Close())
	must(writing.Commit())
	count, _ := copied.RowsAffected()
	fmt.Println("copied", count)

	refused, err := db.Begin()
	must(err)
	_, err = refused.Exec("INSERT INTO orders VALUES (2000, 'not kept')")
	must(err)
	_, err = refused.Exec("DELETE FROM orders")
	fmt.Println("refused", state(err))
	must(refused.Rollback())

	reading, err := db.Begin()
	must(err)
	_, err = reading.Exec("DECLARE named CURSOR FOR SELECT id FROM orders")
	must(err)
	read, parts := 0, 0
	for {
		part, err := reading.Query("FETCH 100 FROM named")
		must(err)
		before := read
		for part.Next() {
			read++
		}
		must(part.Err())
		if read == before {
			break
		}
		parts++
	}
	must(reading.Commit())
	if parts > 1 {
		fmt.Println("read", read, "in parts")
	}

	patience, end := context.WithTimeout(context.Background(), 2*time.Second)
	defer end()
	_, err = db.ExecContext(patience, "SELECT pg_sleep(60)")
	fmt.Println("cancelled", state(err))

	var alive int
	must(db.QueryRow("SELECT 1").Scan(&alive))
	fmt.Println("alive", alive)
}
