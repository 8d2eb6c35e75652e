package sqlbox

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"peermesh/node"
	"peermesh/socket"

	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"
)

// TestMain runs the tests, or is a process that they start and kill.
func TestMain(m *testing.M) {
	if role := os.Getenv("SQLBOX_ROLE"); role != "" {
		if err := play(role); err != nil {
			fmt.Fprintln(os.Stderr, role+":", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(withServer(m))
}

// database is one that the tests use.
type database struct {
	dialect     Dialect
	driver, dsn string
}

// each runs a test with each database that is there.
func each(t *testing.T, f func(t *testing.T, d database)) {
	t.Run("sqlite", func(t *testing.T) {
		f(t, database{SQLite, "sqlite", "file:" + filepath.ToSlash(filepath.Join(t.TempDir(), "app.db")) +
			"?_pragma=busy_timeout(20000)&_pragma=journal_mode(wal)&_pragma=synchronous(full)"})
	})
	t.Run("postgres", func(t *testing.T) {
		f(t, database{Postgres, "pgx", newSchema(t)})
	})
}

func (d database) open() (*sql.DB, error) {
	db, err := sql.Open(d.driver, d.dsn)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(8)
	return db, db.Ping()
}

func opened(t *testing.T, d database) *sql.DB {
	t.Helper()
	db, err := d.open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// newSchema is a world of its own on the server.
func newSchema(t *testing.T) string {
	t.Helper()
	if server == "" {
		t.Skip("no PostgreSQL: " + noServer)
	}
	db := opened(t, database{Postgres, "pgx", server})
	name := "t" + strconv.FormatInt(time.Now().UnixNano(), 36)
	do(t, db, "CREATE SCHEMA "+name)
	return server + " search_path=" + name
}

func do(t *testing.T, db *sql.DB, statement string, args ...any) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// number is what a query says; -1 if its table is not there yet.
func number(db *sql.DB, query string) (n int) {
	if err := db.QueryRow(query).Scan(&n); err != nil {
		return -1
	}
	return n
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// ownMesh keeps the tests to themselves: the processes that they start inherit it.
func ownMesh(t *testing.T) {
	home := t.TempDir()
	for _, name := range []string{"HOME", "XDG_CONFIG_HOME", "AppData"} {
		t.Setenv(name, home)
	}
}

func openNode(t *testing.T, dir string, peers ...string) *node.Node {
	t.Helper()
	n, err := node.Open(t.Context(), node.Config{Name: "test", Dir: dir, Listen: "127.0.0.1:0", NoMDNS: true, Peers: peers})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// process is one that a test kills.
type process struct {
	*exec.Cmd
	stdin io.Closer
}

// start starts a process in a role.
func start(t *testing.T, role string, d database, dir, peer string) *process {
	t.Helper()
	return startAt(t, role, d, dir, peer, "127.0.0.1:0")
}

// startAt starts one that others look for at an address.
func startAt(t *testing.T, role string, d database, dir, peer, addr string) *process {
	t.Helper()
	self := must[string](t)(os.Executable())
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "SQLBOX_ROLE="+role, "SQLBOX_DRIVER="+d.driver, "SQLBOX_DSN="+d.dsn,
		"SQLBOX_DIALECT="+strconv.Itoa(int(d.dialect)), "SQLBOX_DIR="+dir, "SQLBOX_PEER="+peer, "SQLBOX_LISTEN="+addr)
	cmd.Stderr = os.Stderr
	stdin := must[io.WriteCloser](t)(cmd.StdinPipe())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd, stdin}
	t.Cleanup(p.kill)
	return p
}

// kill ends the process as a power cut would.
func (p *process) kill() {
	_ = p.Process.Kill() // it may have been killed before
	_ = p.Wait()         // says that it was
}

// end asks the process to end, and tells how it did.
func (p *process) end() error {
	if err := p.stdin.Close(); err != nil {
		return err
	}
	return p.Wait()
}

// play is the life of a process that a test has started. It ends when its input does.
func play(role string) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	dialect, err := strconv.Atoi(os.Getenv("SQLBOX_DIALECT"))
	if err != nil {
		return err
	}
	db, err := database{Dialect(dialect), os.Getenv("SQLBOX_DRIVER"), os.Getenv("SQLBOX_DSN")}.open()
	if err != nil {
		return err
	}
	defer db.Close()
	n, err := node.Open(ctx, node.Config{Name: role, Dir: os.Getenv("SQLBOX_DIR"), Listen: os.Getenv("SQLBOX_LISTEN"), NoMDNS: true,
		Peers: []string{os.Getenv("SQLBOX_PEER")}})
	if err == nil {
		defer n.Close()
		err = roles[role](ctx, n, db, Dialect(dialect))
	}
	if ctx.Err() != nil {
		return nil // it was asked to end, in whatever it did
	}
	return err
}

var roles = map[string]func(ctx context.Context, n *node.Node, db *sql.DB, d Dialect) error{
	"apply":     applying("jobs"),
	"warehouse": applying("orders"),
	"relay":     relaying(orders, 0),
	"shop":      relaying(1<<30, 3*time.Millisecond),
	"closed":    relaying(0, 0),
}

// applying counts every message of a queue in the table applied.
func applying(queue string) func(context.Context, *node.Node, *sql.DB, Dialect) error {
	return func(ctx context.Context, n *node.Node, db *sql.DB, d Dialect) error {
		return applyAll(ctx, n, db, d, queue)
	}
}

func applyAll(ctx context.Context, n *node.Node, db *sql.DB, d Dialect, queue string) error {
	box, err := OpenInbox(ctx, db, d, "test", slog.Default())
	if err != nil {
		return err
	}
	pull, err := n.Pull(queue)
	if err != nil {
		return err
	}
	return box.Handle(ctx, pull, 4, func(ctx context.Context, tx *sql.Tx, m *socket.Message) error {
		_, err := tx.ExecContext(ctx, d.sql(`INSERT INTO applied (body) VALUES ($1)`), string(m.Body))
		return err
	})
}

// relaying makes orders with a message each until there are so many, one after each while, and relays the messages.
func relaying(most int, each time.Duration) func(context.Context, *node.Node, *sql.DB, Dialect) error {
	return func(ctx context.Context, n *node.Node, db *sql.DB, d Dialect) error {
		return relayOrders(ctx, n, db, d, most, each)
	}
}

func relayOrders(ctx context.Context, n *node.Node, db *sql.DB, d Dialect, most int, each time.Duration) error {
	box, err := OpenOutbox(ctx, db, d, "test", slog.Default())
	if err != nil {
		return err
	}
	push, err := n.Push("orders")
	if err != nil {
		return err
	}
	relayed := make(chan error, 1)
	go func() { relayed <- box.Relay(ctx, n, push) }()
	for ctx.Err() == nil {
		made, err := order(ctx, db, d, box, most)
		if err != nil {
			return err
		}
		if !made {
			break
		}
		select {
		case <-time.After(each):
		case <-ctx.Done():
		}
	}
	return <-relayed
}

const orders = 400

// order makes one order unless there are enough; each third one it changes its mind.
func order(ctx context.Context, db *sql.DB, d Dialect, box *Outbox, most int) (bool, error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return false, err
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, `UPDATE counter SET tries = tries + 1`); err != nil {
		return false, err
	}
	var made, tries int
	if err := tx.QueryRowContext(ctx, `SELECT made, tries FROM counter`).Scan(&made, &tries); err != nil {
		return false, err
	}
	if made >= most {
		return false, nil
	}
	if _, err := tx.ExecContext(ctx, `UPDATE counter SET made = made + 1`); err != nil {
		return false, err
	}
	if err := box.Send(ctx, tx, &socket.Message{Body: fmt.Append(nil, made+1), Headers: socket.Headers{"kind": "order"}}); err != nil {
		return false, err
	}
	if time.Now().UnixNano()%3 == 0 {
		return true, tx.Rollback()
	}
	if err := tx.Commit(); err != nil {
		return false, err
	}
	box.Wake()
	return true, nil
}
