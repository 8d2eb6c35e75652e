package spool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"syscall"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

// badgerOptions sizes Badger. Blocks go to its value log, all else into its tables. Two compactors
// are the least that works. With a key there must be caches for what is decrypted.
func badgerOptions(dir string, size sizes, key []byte, logger badger.Logger) badger.Options {
	o := badger.DefaultOptions(dir).
		WithLogger(logger).
		WithSyncWrites(true).
		WithDetectConflicts(false). // one commit at a time
		WithNumVersionsToKeep(1).
		WithCompression(options.None). // with compression Badger insists on a block cache
		WithBlockCacheSize(0).
		WithIndexCacheSize(0).
		WithMetricsEnabled(false).
		WithNumCompactors(2).
		WithValueThreshold(valueThreshold).
		WithMemTableSize(size.memTable).
		WithValueLogFileSize(size.vlogFile).
		WithValueLogMaxEntries(size.vlogEntries)
	if key != nil {
		o = o.WithEncryptionKey(key).
			WithEncryptionKeyRotationDuration(neverReplaced).
			WithBlockCacheSize(size.cache).
			WithIndexCacheSize(size.cache)
	}
	if size.profile != ProfileEdge {
		return o.WithNumMemtables(2)
	}
	return o.
		WithNumGoroutines(1).
		WithNumMemtables(1).
		WithBaseTableSize(1 << 20).
		WithBaseLevelSize(4 << 20).
		WithNumLevelZeroTables(2).
		WithNumLevelZeroTablesStall(6)
}

// openBadger opens Badger with the key derived for it; nil: not encrypted.
func openBadger(dir string, size sizes, key []byte, logger badger.Logger) (*badger.DB, error) {
	if err := spareFiles(dir); err != nil {
		return nil, err
	}
	db, err := badger.Open(badgerOptions(dir, size, key, logger))
	if err != nil {
		return nil, explain(err)
	}
	return db, nil
}

// badgerFiles is how many files Badger opens, at most, beside those that are there.
const badgerFiles = 16

// spareFiles returns an error if the process may not open as many files as Badger will: where it cannot read its folder or make
// a file of its own, it ends the process. Somebody else may still take them in between.
func spareFiles(dir string) error {
	there, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	need := badgerFiles
	for _, e := range there {
		if _, kept := segmentNumber(e.Name()); !kept { // those are opened one by one, to be read
			need++
		}
	}
	for range need {
		f, err := os.Open(dir)
		if err != nil {
			return fmt.Errorf("badger needs %d open files: %w", need, err)
		}
		defer f.Close()
	}
	return nil
}

// explain says what it means that Badger could not open or read something.
func explain(err error) error {
	text := strings.Join(strings.Fields(err.Error()), " ")
	if strings.Contains(text, "Cannot acquire directory lock") {
		return ErrLocked
	}
	if refusedBySystem(text) {
		return fmt.Errorf("badger: %s", text)
	}
	return fmt.Errorf("%w: badger: %s", ErrDamaged, text)
}

// refusedBySystem tells want of something from damage. Badger flattens its errors to text, so the
// text is all there is to go by.
func refusedBySystem(text string) bool {
	for _, e := range []syscall.Errno{
		syscall.ENOSPC, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM,
		syscall.EACCES, syscall.EPERM, syscall.EROFS, syscall.EIO,
	} {
		if strings.Contains(text, e.Error()) {
			return true
		}
	}
	return false
}

// badgerLog hands Badger's log to slog, and to trap what Badger only logs although it means that
// data is lost or not on disk.
type badgerLog struct {
	log  *slog.Logger
	trap func(error)
}

// Marks of such messages in Badger's source.
var (
	lossMarks    = []string{"Ignoring table", "Unable to read"}
	failureMarks = []string{"curlf sync", "error flushing memtable"}
)

func (l badgerLog) Errorf(format string, args ...any) {
	text := l.write(slog.LevelError, format, args)
	switch {
	case containsAny(text, lossMarks):
		l.trap(fmt.Errorf("%w: badger: %s", ErrDamaged, text))
	case containsAny(text, failureMarks):
		l.trap(errors.New("badger: " + text))
	}
}

func (l badgerLog) Warningf(format string, args ...any) { l.write(slog.LevelWarn, format, args) }

// Infof logs at Debug: what Badger finds notable is not notable in a node.
func (l badgerLog) Infof(format string, args ...any) { l.write(slog.LevelDebug, format, args) }

// Debugf drops the line: Badger writes several for each commit.
func (badgerLog) Debugf(string, ...any) {}

func (l badgerLog) write(level slog.Level, format string, args []any) string {
	if level < slog.LevelError && !l.log.Enabled(context.Background(), level) {
		return ""
	}
	text := strings.TrimSpace(fmt.Sprintf(format, args...))
	l.log.Log(context.Background(), level, "badger: "+text)
	return text
}

func containsAny(text string, marks []string) bool {
	for _, m := range marks {
		if strings.Contains(text, m) {
			return true
		}
	}
	return false
}
