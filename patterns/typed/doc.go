// Package typed puts Go types in the place of bytes, at the edge and nowhere else:
// each type here is a plain socket of package patterns, taken from a node, and a
// codec.
//
//	queue, err := n.Push("thumbnails")
//	thumbnails := typed.Push[Thumbnail]{Socket: queue}
//	err = thumbnails.Send(ctx, Thumbnail{Image: "cat.png", Width: 200})
//
// The codec is JSON unless the Codec field names another. What is not about values,
// like Flush, Stats or Shutdown, is called on the plain socket; typed and plain use of
// one socket may be mixed. All types are safe for concurrent use if their codec is, and
// cheap to copy.
//
// # Bodies that do not decode
//
// They are never acknowledged and never handed to the user. A Pull or Sub gives them
// back, so that a receiver which knows the format may have them; when MaxDeliver
// receivers have failed, the sender counts the message as dead, with the decoder's
// words as its last error. Undecodable, if set, is told here. A Rep answers with an
// error. A Req returns an AnswerError.
//
// Delivery, order and duplicates are those of the plain sockets.
package typed
