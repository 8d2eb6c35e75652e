// Command example is a shop and its warehouse, each with a database of its own:
//
//	shop: order + message, one transaction --> relay --> warehouse: message + stock, one transaction
//
// An order that was committed leaves the stock exactly once, whichever process or database is
// restarted in between; an order that was rolled back was never heard of.
//
//	go run ./example
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"peermesh/adapters/sqlbox"
	"peermesh/node"
	"peermesh/socket"

	_ "modernc.org/sqlite"
)

func main() {
	dir, err := os.MkdirTemp("", "sqlbox")
	if err != nil {
		log.Fatal(err)
	}
	err = run(context.Background(), dir)
	if err := errors.Join(err, os.RemoveAll(dir)); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, dir string) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	shop, orders, err := open(ctx, dir, "shop", `CREATE TABLE orders (item TEXT, pieces INTEGER)`)
	if err != nil {
		return err
	}
	defer shop.Close()
	defer orders.Close()
	warehouse, stock, err := open(ctx, dir, "warehouse", `CREATE TABLE stock (item TEXT PRIMARY KEY, pieces INTEGER)`, shop.Addr().String())
	if err != nil {
		return err
	}
	defer warehouse.Close()
	defer stock.Close()
	if _, err := stock.ExecContext(ctx, `INSERT INTO stock VALUES ('lamp', 100)`); err != nil {
		return err
	}

	// The shop's relay sends what its transactions have left in the outbox.
	out, err := sqlbox.OpenOutbox(ctx, orders, sqlbox.SQLite, "orders", nil)
	if err != nil {
		return err
	}
	push, err := shop.Push("orders")
	if err != nil {
		return err
	}
	relayed := make(chan error, 1)
	go func() { relayed <- out.Relay(ctx, shop, push) }()

	// The warehouse takes each order from the stock, once.
	in, err := sqlbox.OpenInbox(ctx, stock, sqlbox.SQLite, "stock", nil)
	if err != nil {
		return err
	}
	pull, err := warehouse.Pull("orders")
	if err != nil {
		return err
	}
	handled := make(chan error, 1)
	go func() {
		handled <- in.Handle(ctx, pull, 4, func(ctx context.Context, tx *sql.Tx, m *socket.Message) error {
			if string(m.Body) == "7" && m.Attempt() == 1 {
				return errors.New("dropped it") // rolled back, and comes again
			}
			_, err := tx.ExecContext(ctx, `UPDATE stock SET pieces = pieces - ? WHERE item = 'lamp'`, string(m.Body))
			return err
		})
	}()

	// Orders of 1, 2, ... 10 pieces; each third customer changes their mind.
	for pieces := 1; pieces <= 10; pieces++ {
		if err := order(ctx, orders, out, pieces, pieces%3 != 0); err != nil {
			return err
		}
	}
	var sold, left int
	if err := orders.QueryRowContext(ctx, `SELECT sum(pieces) FROM orders`).Scan(&sold); err != nil {
		return err
	}
	for end := time.After(30 * time.Second); left != 100-sold; {
		if err := stock.QueryRowContext(ctx, `SELECT pieces FROM stock`).Scan(&left); err != nil {
			return err
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-end:
			return fmt.Errorf("%d lamps left, want %d", left, 100-sold)
		}
	}
	fmt.Printf("%d lamps ordered, %d of 100 left\n", sold, left)
	stop()
	for _, err := range []error{<-relayed, <-handled} {
		if !errors.Is(err, context.Canceled) {
			return err
		}
	}
	return nil
}

// order writes an order and its message, and commits both or neither.
func order(ctx context.Context, db *sql.DB, out *sqlbox.Outbox, pieces int, sure bool) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, `INSERT INTO orders VALUES ('lamp', ?)`, pieces); err != nil {
		return err
	}
	if err := out.Send(ctx, tx, &socket.Message{Body: fmt.Append(nil, pieces)}); err != nil {
		return err
	}
	if !sure {
		return nil
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	out.Wake()
	return nil
}

// open makes a node and a database in a folder.
func open(ctx context.Context, dir, name, table string, peers ...string) (*node.Node, *sql.DB, error) {
	n, err := node.Open(ctx, node.Config{Name: name, Dir: filepath.Join(dir, name), Listen: "127.0.0.1:0", NoMDNS: true, Peers: peers})
	if err != nil {
		return nil, nil, err
	}
	// A write waits for another one's transaction, instead of failing.
	db, err := sql.Open("sqlite", "file:"+filepath.ToSlash(filepath.Join(dir, name+".db"))+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(wal)")
	if err == nil {
		_, err = db.ExecContext(ctx, table)
	}
	if err != nil {
		return nil, nil, errors.Join(err, n.Close())
	}
	return n, db, nil
}
