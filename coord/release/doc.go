// Package release is what a release of the firmware says of itself: the signed manifest of a bundle, who may sign one, which versions come
// before which, and which formats of data a release reads. Pure: bytes, keys and the running release come from outside.
//
// A bundle is one file:
//
//	"holdfast bundle1" | length u32 | manifest, JSON | key 8 | length u16 | signature | kernel | initrd
//
// Numbers are big-endian. The key is named by the first 8 bytes of the SHA-256 of its PKIX DER; the signature is ECDSA over P-256, DER, over
// SHA-256("holdfast update1" || manifest). What stands before the kernel is the head: a slot keeps it beside the files, so that a
// slot's content is its bundle again. The bundle's id is what is signed, so that it is the same whoever signs it.
package release
