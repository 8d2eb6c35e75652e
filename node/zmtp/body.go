package zmtp

import "bytes"

// magic begins a body that holds the several parts of one message. It is no UTF-8 and no format known to us begins so.
var magic = []byte{0xff, 0x00, 'Z', 'M', 'T', 'P', 0x00, 0xfe}

// Join makes the body of a mesh message of the parts of a ZeroMQ message. One part is the body itself; several stand
// behind eight bytes that nothing else begins with, each as a frame of ZMTP 3. Split is its inverse: for any parts,
// Split(Join(parts...)) is the parts, and for any body, Join(Split(body)...) is the body. The result may alias the part.
// No parts are one empty part.
func Join(parts ...[]byte) []byte {
	switch len(parts) {
	case 0:
		return nil
	case 1:
		if _, ok := split(parts[0]); !ok {
			return parts[0]
		}
	}
	size := len(magic)
	for _, p := range parts {
		size += maxHead + len(p)
	}
	return appendMessage(append(make([]byte, 0, size), magic...), parts)
}

// Split gives the parts of a body that came from a ZeroMQ program, or anywhere else: a body that Join did not make of
// several parts is one part. There is at least one; they alias the body.
func Split(body []byte) [][]byte {
	if parts, ok := split(body); ok {
		return parts
	}
	return [][]byte{body}
}

// split takes a body apart that Join has put together; it is not ok if Join would not have made exactly these bytes.
func split(body []byte) (parts [][]byte, ok bool) {
	parts, ok = frames(body)
	// One part alone is only put together if it looks like several itself.
	for inner := parts; ok && len(inner) == 1; {
		inner, ok = frames(inner[0])
	}
	if !ok {
		return nil, false
	}
	return parts, true
}

// frames reads the frames behind the magic. Each is as Join writes it, and nothing follows them.
func frames(body []byte) (parts [][]byte, ok bool) {
	rest, ok := bytes.CutPrefix(body, magic)
	for more := true; ok && more; {
		f, n, err := parseFrame(rest, len(rest))
		if err != nil || n == 0 || f.command || n != len(f.body)+headSize(len(f.body)) {
			return nil, false
		}
		parts, rest, more = append(parts, f.body), rest[n:], f.more
	}
	return parts, ok && len(rest) == 0
}

// headSize is what appendHead writes.
func headSize(size int) int {
	if size <= maxShort {
		return 2
	}
	return maxHead
}
