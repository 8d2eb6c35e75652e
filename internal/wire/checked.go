package wire

import "encoding/binary"

// NextChecked is NextRecord for what NextRecord has read before, and accepted: it does not look at the checksum again. It
// returns the record's body and what follows the record.
func NextChecked(b []byte) (body, rest []byte) {
	n, w := binary.Uvarint(b)
	at, end := w+4, w+4+int(n)
	_, w = binary.Uvarint(b[at:])
	if b[at+w] == 0 { // no optional field, as is usual
		return b[at+w+1 : end : end], b[end:]
	}
	r, err := parseRecord(b[at:end:end])
	if err != nil {
		panic("wire: NextChecked of what was not checked: " + err.Error())
	}
	return r.Body, b[end:]
}
