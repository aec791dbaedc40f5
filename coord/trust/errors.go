package trust

import "errors"

// Errors of this package, to be told apart with errors.Is. All are wrapped with the operation and
// with what the operator can do.
var (
	// ErrKeyMode says that others than the owner may read or write identity.key.
	ErrKeyMode = errors.New("key file is open to others")
	// ErrKeyDamaged says that identity.key does not hold a P-256 private key.
	ErrKeyDamaged = errors.New("key file is damaged")
	// ErrKeyPlace says that the key is not where the configuration says, or in two places. A key moves only when it is told to.
	ErrKeyPlace = errors.New("key is in another place")
	// ErrKeySealed says that a sealed key does not open: the TPM is gone, was cleared, or is another.
	ErrKeySealed = errors.New("sealed key does not open")
	// ErrMembers says that a member set cannot be: double or unknown identities, a bad key, a bad
	// address, too many or no members.
	ErrMembers = errors.New("bad member set")
	// ErrSiteFile says that site.json cannot be read as a member set.
	ErrSiteFile = errors.New("site file is damaged")
	// ErrCert says that a certificate does not prove what it says.
	ErrCert = errors.New("bad certificate")
)
