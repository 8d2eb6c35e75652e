package wire

import (
	"fmt"
	"testing"

	"peermesh/internal/ranges"
)

var bodySizes = []int{16, 100, 1024}

// recordsOf is a DATA frame's worth of records, and how many.
func recordsOf(size int) (b []byte, n int) {
	r := Record{Body: make([]byte, size)}
	for ; len(b) < MaxRun-2*size; n++ {
		r.Delta = uint64(n)
		b = AppendRecord(b, r)
	}
	return b, n
}

func BenchmarkAppendRecord(b *testing.B) {
	for _, size := range bodySizes {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			dst := make([]byte, 0, MaxRun)
			r := Record{Body: make([]byte, size)}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if dst = AppendRecord(dst, r); len(dst) > MaxRun-2*size {
					dst = dst[:0]
				}
			}
		})
	}
}

func BenchmarkNextRecord(b *testing.B) {
	for _, size := range bodySizes {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			records, _ := recordsOf(size)
			rest := records
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if _, rest, err = NextRecord(rest); err != nil {
					b.Fatal(err)
				}
				if len(rest) == 0 {
					rest = records
				}
			}
		})
	}
}

func BenchmarkAppendData(b *testing.B) {
	records, n := recordsOf(100)
	dst := make([]byte, 0, 2*MaxRun)
	b.SetBytes(int64(len(records)))
	b.ReportAllocs()
	for b.Loop() {
		dst = AppendData(dst[:0], Run{Base: 1, Attempt: 1}, records)
	}
	b.ReportMetric(float64(n), "records/op")
}

// manyRanges is a done set with a hole of hole seqs beside every mark.
func manyRanges(n int, hole uint64) EditionRanges {
	e := EditionRanges{Edition: edition}
	for i := range n {
		seq := 1 + uint64(i)*(hole+1)
		e.Ranges = append(e.Ranges, ranges.Range{From: seq, To: seq})
	}
	return e
}

func BenchmarkAppendRanges(b *testing.B) {
	for _, n := range []int{1, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			e := manyRanges(n, 100)
			dst := make([]byte, 0, MaxRun)
			b.ReportAllocs()
			for b.Loop() {
				dst = AppendRanges(dst[:0], TypeDone, e)
			}
		})
	}
}

func BenchmarkParseRanges(b *testing.B) {
	for _, n := range []int{1, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			payload := payloadOf(b, AppendRanges(nil, TypeDone, manyRanges(n, 100)), TypeDone)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ParseRanges(payload); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
