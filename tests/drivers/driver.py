"""What programs do with psycopg, in the order of tests/tests/gateway/drivers.rs."""

import threading

import psycopg


def shown(row):
    return " ".join("NULL" if value is None else str(value) for value in row)


with psycopg.connect("") as connection:
    connection.autocommit = True
    with connection.cursor() as cursor:
        for row in cursor.execute("SELECT id, pan, cvv FROM cards ORDER BY id"):
            print("card", shown(row))
        for number in (1, 2):
            cursor.execute("SELECT note FROM orders WHERE id = %s", (number,), prepare=True)
            print(shown(cursor.fetchone()))
    with connection.cursor(binary=True) as cursor:
        print("big", shown(cursor.execute("SELECT big FROM loose").fetchone()))
    with connection.cursor() as cursor:
        with cursor.copy("COPY orders FROM STDIN") as copy:
            for number in (1001, 1002, 1003):
                copy.write_row((number, "copied"))
        print("copied", cursor.rowcount)
    try:
        with connection.transaction(), connection.cursor() as cursor:
            cursor.execute("INSERT INTO orders VALUES (2000, 'not kept')")
            cursor.execute("DELETE FROM orders")
    except psycopg.Error as error:
        print("refused", error.sqlstate)
    with connection.transaction(), connection.cursor("named") as cursor:
        cursor.execute("SELECT id FROM orders")
        count, parts = 0, 0
        while part := cursor.fetchmany(100):
            count, parts = count + len(part), parts + 1
        print("read", count, "in parts" if parts > 1 else "")
    over = threading.Event()

    def cancel():
        # Again and again: the first may come before the statement runs.
        while not over.wait(0.1):
            connection.cancel_safe()

    cancelling = threading.Thread(target=cancel)
    cancelling.start()
    try:
        connection.execute("SELECT pg_sleep(60)")
    except psycopg.Error as error:
        print("cancelled", error.sqlstate)
    over.set()
    cancelling.join()
    print("alive", shown(connection.execute("SELECT 1").fetchone()))
