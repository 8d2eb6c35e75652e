package spool

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// A plain write-ahead log stands beside the spool in each run: disks differ from minute to minute,
// ratios less.

// wal appends framed records to a file and syncs once per group, as the spool does.
type wal struct {
	mu      sync.Mutex
	file    *os.File
	fill    []byte
	done    chan struct{} // of the group being filled
	taken   chan struct{}
	work    chan struct{}
	stopped sync.WaitGroup
	bound   int
}

func openWAL(b *testing.B, bound int) *wal {
	b.Helper()
	f, err := os.Create(filepath.Join(b.TempDir(), "wal"))
	must(b, err)
	w := &wal{file: f, done: make(chan struct{}), taken: make(chan struct{}), work: make(chan struct{}, 1), bound: bound}
	w.stopped.Go(func() {
		var spare []byte
		for range w.work {
			w.mu.Lock()
			batch, done := w.fill, w.done
			w.fill, w.done = spare[:0], make(chan struct{})
			close(w.taken)
			w.taken = make(chan struct{})
			w.mu.Unlock()
			_, err := f.Write(batch)
			if err == nil {
				err = syncData(f)
			}
			if err != nil {
				b.Error(err)
			}
			spare = batch
			close(done)
		}
	})
	return w
}

func (w *wal) append(body []byte) (done chan struct{}) {
	w.mu.Lock()
	for len(w.fill) >= w.bound {
		taken := w.taken
		w.mu.Unlock()
		<-taken
		w.mu.Lock()
	}
	w.fill = frame(w.fill, body)
	done = w.done
	w.mu.Unlock()
	select {
	case w.work <- struct{}{}:
	default:
	}
	return done
}

func (w *wal) close(b *testing.B) {
	close(w.work)
	w.stopped.Wait()
	must(b, w.file.Close())
}

func frame(dst, body []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(body)))
	dst = binary.LittleEndian.AppendUint32(dst, crc32.Checksum(body, castagnoli))
	return append(dst, body...)
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

func benchAppend(b testing.TB, s *Store, q *Queue, body []byte) Group {
	c := s.Begin()
	defer c.End()
	if _, _, _, err := c.Append(q, len(body)+8, func(dst []byte, _ uint64) []byte { return frame(dst, body) }); err != nil {
		b.Fatal(err)
	}
	return c.Group()
}

// pipelined appends n records and waits for the last; it returns how long that took.
func pipelined(b *testing.B, s *Store, q *Queue, n, size int) time.Duration {
	payload := randomBytes(1<<16 + size)
	began := time.Now()
	var last Group
	for i := range n {
		if i%64 == 0 || size > 4096 {
			must(b, s.Ready(context.Background()))
		}
		at := (i * 7919) & (1<<16 - 1)
		last = benchAppend(b, s, q, payload[at:at+size])
	}
	must(b, s.Wait(context.Background(), last))
	return time.Since(began)
}

func pipelinedWAL(w *wal, n, size int) time.Duration {
	payload := randomBytes(1<<16 + size)
	began := time.Now()
	var last chan struct{}
	for i := range n {
		at := (i * 7919) & (1<<16 - 1)
		last = w.append(payload[at : at+size])
	}
	<-last
	return time.Since(began)
}

// pipelinedBadger writes the same blocks in the same groups to a bare Badger: no books, no mark.
func pipelinedBadger(b *testing.B, db *badger.DB, first *uint64, limit sizes, n, size int) time.Duration {
	payload := randomBytes(1<<16 + size)
	began := time.Now()
	groups := make(chan [][]byte)
	go func() {
		defer close(groups)
		var blocks [][]byte
		block := make([]byte, 0, limit.block+1<<10)
		for i := range n {
			at := (i * 7919) & (1<<16 - 1)
			if len(block)+size+8 > limit.block {
				blocks, block = append(blocks, block), make([]byte, 0, limit.block+1<<10)
			}
			if len(blocks)*limit.block >= limit.group {
				groups <- blocks
				blocks = nil
			}
			block = frame(block, payload[at:at+size])
		}
		groups <- append(blocks, block)
	}()
	for blocks := range groups {
		must(b, db.Update(func(txn *badger.Txn) error {
			for _, block := range blocks {
				*first++
				if err := txn.Set(binary.BigEndian.AppendUint64([]byte("q"), *first), block); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	return time.Since(began)
}

func BenchmarkPipelinedAppend(b *testing.B) {
	for _, profile := range []Profile{ProfileServer, ProfileEdge} {
		for _, size := range []int{100, 1 << 10, 64 << 10} {
			b.Run(fmt.Sprintf("%v/%d", profile, size), func(b *testing.B) {
				n := max(192<<20/(size+64), 1)
				s := mustOpenWith(b, b.TempDir(), Options{Profile: profile, Reserve: -1})
				q, _ := mustOpenQueue(b, s, "bench")
				w := openWAL(b, s.profile.group)
				defer w.close(b)
				db, err := openBadger(b.TempDir(), s.profile, nil, nil)
				must(b, err)
				defer func() { must(b, db.Close()) }()
				var spool, plain, bare time.Duration
				var device int64
				var first uint64
				for b.Loop() {
					for range 3 { // in turn: disks change their mind
						plain += pipelinedWAL(w, n/3, size)
						bare += pipelinedBadger(b, db, &first, s.profile, n/3, size)
						before := written()
						spool += pipelined(b, s, q, n/3, size)
						device += written() - before
					}
				}
				total := float64(b.N) * float64(n/3*3)
				b.ReportMetric(float64(ofProcess("status", "RssAnon:"))/1024, "anon-MB")
				b.ReportMetric(float64(device)/total/float64(size), "device/payload")
				b.ReportMetric(total/spool.Seconds(), "msg/s")
				b.ReportMetric(total/plain.Seconds(), "wal-msg/s")
				b.ReportMetric(plain.Seconds()/spool.Seconds(), "ratio")
				b.ReportMetric(bare.Seconds()/spool.Seconds(), "badger-ratio")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

func BenchmarkWaitingSenders(b *testing.B) {
	for _, senders := range []int{1, 64} {
		b.Run(fmt.Sprint(senders), func(b *testing.B) {
			s := mustOpenWith(b, b.TempDir(), Options{Profile: ProfileServer, Reserve: -1})
			q, _ := mustOpenQueue(b, s, "bench")
			w := openWAL(b, s.profile.group)
			defer w.close(b)
			body := randomBytes(1 << 10)
			each := 4000 / senders * min(senders, 8)
			run := func(send func()) time.Duration {
				began := time.Now()
				var wg sync.WaitGroup
				for range senders {
					wg.Go(func() {
						for range each / 3 {
							send()
						}
					})
				}
				wg.Wait()
				return time.Since(began)
			}
			var spool, plain time.Duration
			for b.Loop() {
				for range 3 {
					plain += run(func() { <-w.append(body) })
					spool += run(func() {
						if err := s.Wait(context.Background(), benchAppend(b, s, q, body)); err != nil {
							b.Error(err)
						}
					})
				}
			}
			total := float64(b.N) * float64(each/3*3*senders)
			b.ReportMetric(total/spool.Seconds(), "msg/s")
			b.ReportMetric(total/plain.Seconds(), "wal-msg/s")
			b.ReportMetric(plain.Seconds()/spool.Seconds(), "ratio")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// written returns the bytes this process has had written to devices.
func written() int64 { return ofProcess("io", "write_bytes:") }

// ofProcess returns a number that the system keeps of this process; 0 where it does not.
func ofProcess(file, name string) int64 {
	text, err := os.ReadFile("/proc/self/" + file)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		var n int64
		if _, err := fmt.Sscanf(line, name+" %d", &n); err == nil {
			return n
		}
	}
	return 0
}

func BenchmarkTrimGigabyte(b *testing.B) {
	dir := b.TempDir()
	s := mustOpenWith(b, dir, Options{Profile: ProfileServer, Reserve: -1})
	q, _ := mustOpenQueue(b, s, "bench")
	var trim, back time.Duration
	for b.Loop() {
		pipelined(b, s, q, 1_000_000, 1<<10)
		began := time.Now()
		commit(b, s, func(c *Change) { c.Settle(q, 1, q.rec.next) })
		trim += time.Since(began)
		for s.Stat().Disk >= 2<<20 {
			if time.Since(began) > time.Minute {
				b.Fatalf("still on disk:\n%s", sizes2(dir))
			}
			time.Sleep(time.Millisecond)
		}
		back += time.Since(began)
	}
	b.ReportMetric(trim.Seconds()*1e3/float64(b.N), "trim-ms")
	b.ReportMetric(back.Seconds()*1e3/float64(b.N), "back-ms")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkCommitWhileCleaning appends 50 MB a second and settles 32 MB behind, so that sweeps run
// all the time, beside a sender that waits for each commit.
func BenchmarkCommitWhileCleaning(b *testing.B) {
	s := mustOpenWith(b, b.TempDir(), Options{Profile: ProfileServer, Reserve: -1})
	q, _ := mustOpenQueue(b, s, "bench")
	body := randomBytes(10 << 10)
	var took []time.Duration
	for b.Loop() {
		took = took[:0]
		began := time.Now()
		for n := 0; time.Since(began) < 6*time.Second; {
			for due := int(time.Since(began).Seconds() * 5000); n < due; n++ {
				benchAppend(b, s, q, body)
			}
			at := time.Now()
			commit(b, s, func(c *Change) {
				if next := q.rec.next; next > 3200 {
					c.Settle(q, 1, next-3200)
				}
			})
			took = append(took, time.Since(at))
		}
	}
	slices.Sort(took)
	b.ReportMetric(took[len(took)/2].Seconds()*1e3, "p50-ms")
	b.ReportMetric(took[len(took)*99/100].Seconds()*1e3, "p99-ms")
	b.ReportMetric(took[len(took)-1].Seconds()*1e3, "max-ms")
	b.ReportMetric(0, "ns/op")
}

func BenchmarkReadInOrder(b *testing.B) {
	s := mustOpenWith(b, b.TempDir(), Options{Profile: ProfileServer, Reserve: -1})
	q, _ := mustOpenQueue(b, s, "bench")
	pipelined(b, s, q, 200_000, 1<<10)
	var total int64
	for b.Loop() {
		total = readInOrder(b, q)
	}
	b.SetBytes(total)
}

// readInOrder reads all that a queue holds and returns how many bytes that are.
func readInOrder(b *testing.B, q *Queue) (total int64) {
	for from := uint64(1); ; {
		block, err := q.Read(from)
		if err == io.EOF {
			return total
		}
		must(b, err)
		total += int64(len(block.Data))
		from = block.Last + 1
	}
}

// BenchmarkEncrypted holds an encrypted store against a plain one, in turns: appended, then read.
func BenchmarkEncrypted(b *testing.B) {
	for _, profile := range []Profile{ProfileServer, ProfileEdge} {
		for _, size := range []int{100, 1 << 10, 64 << 10} {
			b.Run(fmt.Sprintf("%v/%d", profile, size), func(b *testing.B) {
				n := 64 << 20 / (size + 64)
				var append, read [2]time.Duration
				var bytes [2]int64
				for b.Loop() {
					for range 3 {
						for i, key := range [][]byte{nil, testKey} {
							s := mustOpenWith(b, b.TempDir(), Options{Profile: profile, Reserve: -1, Key: key})
							q, _ := mustOpenQueue(b, s, "bench")
							append[i] += pipelined(b, s, q, n, size)
							began := time.Now()
							bytes[i] += readInOrder(b, q)
							read[i] += time.Since(began)
							mustClose(b, s)
						}
					}
				}
				total := float64(b.N) * 3 * float64(n)
				b.ReportMetric(total/append[1].Seconds(), "msg/s")
				b.ReportMetric(total/append[0].Seconds(), "plain-msg/s")
				b.ReportMetric(append[0].Seconds()/append[1].Seconds(), "ratio")
				b.ReportMetric(float64(bytes[1])/read[1].Seconds()/1e6, "read-MB/s")
				b.ReportMetric(float64(bytes[0])/read[0].Seconds()/1e6, "plain-read-MB/s")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

func BenchmarkOpenWith600MB(b *testing.B) {
	for name, key := range map[string][]byte{"plain": nil, "encrypted": testKey} {
		b.Run(name, func(b *testing.B) {
			dir, opt := b.TempDir(), Options{Profile: ProfileServer, Reserve: -1, Key: key}
			s, err := Open(dir, opt)
			must(b, err)
			q, _ := mustOpenQueue(b, s, "bench")
			pipelined(b, s, q, 600_000, 1<<10)
			cut := filepath.Join(b.TempDir(), "cut")
			must(b, copyLive(dir, cut))
			must(b, s.Close())
			for b.Loop() {
				s, err := Open(cut, opt)
				must(b, err)
				b.StopTimer()
				must(b, s.Close())
				b.StartTimer()
			}
		})
	}
}

// BenchmarkTxnPerMessage is what group commit saves: 64 senders with a synced transaction for each
// message.
func BenchmarkTxnPerMessage(b *testing.B) {
	db, err := openBadger(b.TempDir(), sizesOf(ProfileServer), nil, nil)
	must(b, err)
	defer func() { must(b, db.Close()) }()
	body := randomBytes(1 << 10)
	var next atomic.Uint64
	const senders, each = 64, 100
	var took time.Duration
	for b.Loop() {
		began := time.Now()
		var wg sync.WaitGroup
		for range senders {
			wg.Go(func() {
				for range each {
					key := binary.BigEndian.AppendUint64(nil, next.Add(1))
					if err := db.Update(func(txn *badger.Txn) error { return txn.Set(key, body) }); err != nil {
						b.Error(err)
					}
				}
			})
		}
		wg.Wait()
		took += time.Since(began)
	}
	b.ReportMetric(float64(b.N)*senders*each/took.Seconds(), "msg/s")
	b.ReportMetric(0, "ns/op")
}
