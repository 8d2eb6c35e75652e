package reference

import (
	"context"
	"fmt"
	"os"
)

// Plain is a file that bytes are written to. Its methods are for one goroutine.
type Plain struct {
	file  *os.File
	one   []byte
	batch []byte
}

// CreatePlain makes an empty file in the place of what may have been there. It counts in
// messages that take as much room as those of a WAL for bodies of size bytes.
func CreatePlain(path string, size int) (*Plain, error) {
	w, err := Create(path, size)
	if err != nil {
		return nil, err
	}
	one := len(w.frame(nil))
	whole := max((batchBytes+one-1)/one, 1)
	return &Plain{file: w.file, one: make([]byte, one), batch: make([]byte, whole*one)}, nil
}

// Close closes the file and leaves it where it is.
func (p *Plain) Close() error { return p.file.Close() }

// One writes and syncs the bytes of one message.
func (p *Plain) One() error { return commit(p.file, p.one) }

// Burst is that of a WAL.
func (p *Plain) Burst(ctx context.Context, more func(sent int) (most int)) (sent int, err error) {
	full := len(p.batch) / len(p.one)
	for due, most := 0, more(0); ctx.Err() == nil; most = more(sent + due) {
		due = min(due+most, full)
		if due < full && most > 0 {
			continue
		}
		if due == 0 {
			return sent, nil
		}
		if err := commit(p.file, p.batch[:due*len(p.one)]); err != nil {
			return 0, fmt.Errorf("reference: %w", err)
		}
		sent, due = sent+due, 0
	}
	return 0, context.Cause(ctx)
}
