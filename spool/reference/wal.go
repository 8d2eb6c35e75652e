package reference

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
)

const (
	// batchBytes bounds what one sync takes along, as a spool does.
	batchBytes = 2 << 20
	// MaxBody is the longest body of a message.
	MaxBody = 8 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// WAL is a write-ahead log of messages of one size. Its methods are for one goroutine.
type WAL struct {
	file   *os.File
	body   []byte
	record []byte
}

// Create makes an empty log for bodies of size bytes, in the place of what may have been
// there.
func Create(path string, size int) (*WAL, error) {
	if size < 0 || size > MaxBody {
		return nil, fmt.Errorf("reference: bodies of %d bytes: 0 to %d", size, MaxBody)
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("reference: %w", err)
	}
	return &WAL{file: f, body: make([]byte, size)}, nil
}

// Close closes the file and leaves it where it is.
func (w *WAL) Close() error { return w.file.Close() }

// frame appends one record.
func (w *WAL) frame(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(w.body)))
	dst = binary.LittleEndian.AppendUint32(dst, crc32.Checksum(w.body, castagnoli))
	return append(dst, w.body...)
}

// One writes and syncs one message.
func (w *WAL) One() error {
	w.record = w.frame(w.record[:0])
	return commit(w.file, w.record)
}

// Burst writes messages until more says that those written are enough; at most as many
// as it says are framed before it is asked again. It returns, once all are on disk, how
// many they are. When ctx ends, that is the error.
func (w *WAL) Burst(ctx context.Context, more func(sent int) (most int)) (int, error) {
	full, empty, ended := make(chan []byte), make(chan []byte, 2), make(chan error, 1)
	empty <- make([]byte, 0, batchBytes+len(w.body)+16)
	empty <- make([]byte, 0, batchBytes+len(w.body)+16)
	go func() {
		var err error
		for b := range full {
			err = errors.Join(err, commit(w.file, b))
			empty <- b
		}
		ended <- err
	}()
	sent := 0
	batch := <-empty
	for most := more(0); most > 0 && ctx.Err() == nil; most = more(sent) {
		for n := 0; n < most && len(batch) < batchBytes; n++ {
			batch = w.frame(batch)
			sent++
		}
		if len(batch) >= batchBytes {
			full <- batch
			batch = (<-empty)[:0]
		}
	}
	full <- batch
	close(full)
	if err := <-ended; err != nil {
		return 0, fmt.Errorf("reference: %w", err)
	}
	return sent, context.Cause(ctx)
}

// commit returns when b is on disk.
func commit(f *os.File, b []byte) error {
	if _, err := f.Write(b); err != nil {
		return err
	}
	return syncData(f)
}
