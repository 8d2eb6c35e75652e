package patterns

import (
	"fmt"
	"testing"

	"peermesh/internal/ledger"
)

// told is the seqs of receipts that are settled.
func told(rs []*Receipt) (seqs []uint64) {
	for _, r := range rs {
		settled := r.known() != nil
		select {
		case <-r.Done():
			if settled {
				seqs = append(seqs, r.Seq)
			}
		default:
		}
	}
	return seqs
}

func TestReceiptsAreToldByRange(t *testing.T) {
	var rs receipts
	var all []*Receipt
	for seq := uint64(60); seq <= 200; seq += 10 { // on three pages and one alone
		r := &Receipt{}
		if seq == 100 {
			r = early("")
			r.Done()
		}
		rs.note(r, seq)
		all = append(all, r)
	}
	done := &fate{state: ledger.Done}
	equal(t, "before", fmt.Sprint(told(all)), "[]")
	rs.settle(61, 79, done)
	equal(t, "some of a page", fmt.Sprint(told(all)), "[70]")
	rs.settle(75, 149, done)
	equal(t, "over pages", fmt.Sprint(told(all)), "[70 80 90 100 110 120 130 140]")
	rs.settle(1, 59, done)
	rs.settle(201, 1000, done)
	equal(t, "of others", len(told(all)), 8)
	rs.settle(1, 1000, &fate{state: ledger.Expired})
	equal(t, "in the end", len(told(all)), len(all))
	equal(t, "the first fate stays", all[1].known(), done)
	equal(t, "kept", fmt.Sprint(len(rs.pages), len(rs.alone)), "0 0")
}

func TestAReceiptOfNoMessageIsNeverTold(t *testing.T) {
	equal(t, "told", fmt.Sprint(told([]*Receipt{{Seq: 7}, early("")})), "[]")
}
