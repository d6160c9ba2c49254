package snp

import "fmt"

// Status is a status code of the SNP firmware: what QEMU prints as fw_error
// and what the kernel calls sev_ret_code (include/uapi/linux/psp-sev.h).
type Status int32

// Status codes. QEMU's own table ends at 0x18 and skips numbers after it, so
// these follow the kernel's.
const (
	StatusNoFWCall             Status = -1
	StatusSuccess              Status = 0x00
	StatusInvalidPlatformState Status = 0x01
	StatusInvalidGuestState    Status = 0x02
	StatusInvalidConfig        Status = 0x03
	StatusInvalidLength        Status = 0x04
	StatusAlreadyOwned         Status = 0x05
	StatusInvalidCertificate   Status = 0x06
	StatusPolicyFailure        Status = 0x07
	StatusInactive             Status = 0x08
	StatusInvalidAddress       Status = 0x09
	StatusBadSignature         Status = 0x0A
	StatusBadMeasurement       Status = 0x0B
	StatusASIDOwned            Status = 0x0C
	StatusInvalidASID          Status = 0x0D
	StatusWBINVDRequired       Status = 0x0E
	StatusDFFlushRequired      Status = 0x0F
	StatusInvalidGuest         Status = 0x10
	StatusInvalidCommand       Status = 0x11
	StatusActive               Status = 0x12
	StatusHWErrorPlatform      Status = 0x13
	StatusHWErrorUnsafe        Status = 0x14
	StatusUnsupported          Status = 0x15
	StatusInvalidParam         Status = 0x16
	StatusResourceLimit        Status = 0x17
	StatusSecureDataInvalid    Status = 0x18
	StatusInvalidPageSize      Status = 0x19
	StatusInvalidPageState     Status = 0x1A
	StatusInvalidMDataEntry    Status = 0x1B
	StatusInvalidPageOwner     Status = 0x1C
	StatusAEADOverflow         Status = 0x1D
	StatusExitRingBuffer       Status = 0x1F
	StatusRMPInitRequired      Status = 0x20
	StatusBadSVN               Status = 0x21
	StatusBadVersion           Status = 0x22
	StatusShutdownRequired     Status = 0x23
	StatusUpdateFailed         Status = 0x24
	StatusRestoreRequired      Status = 0x25
	StatusRMPInitFailed        Status = 0x26
	StatusInvalidKey           Status = 0x27
	StatusShutdownIncomplete   Status = 0x28
)

var statusNames = map[Status]string{
	StatusNoFWCall:             "NO_FW_CALL",
	StatusSuccess:              "SUCCESS",
	StatusInvalidPlatformState: "INVALID_PLATFORM_STATE",
	StatusInvalidGuestState:    "INVALID_GUEST_STATE",
	StatusInvalidConfig:        "INVALID_CONFIG",
	StatusInvalidLength:        "INVALID_LENGTH",
	StatusAlreadyOwned:         "ALREADY_OWNED",
	StatusInvalidCertificate:   "INVALID_CERTIFICATE",
	StatusPolicyFailure:        "POLICY_FAILURE",
	StatusInactive:             "INACTIVE",
	StatusInvalidAddress:       "INVALID_ADDRESS",
	StatusBadSignature:         "BAD_SIGNATURE",
	StatusBadMeasurement:       "BAD_MEASUREMENT",
	StatusASIDOwned:            "ASID_OWNED",
	StatusInvalidASID:          "INVALID_ASID",
	StatusWBINVDRequired:       "WBINVD_REQUIRED",
	StatusDFFlushRequired:      "DFFLUSH_REQUIRED",
	StatusInvalidGuest:         "INVALID_GUEST",
	StatusInvalidCommand:       "INVALID_COMMAND",
	StatusActive:               "ACTIVE",
	StatusHWErrorPlatform:      "HWERROR_PLATFORM",
	StatusHWErrorUnsafe:        "HWERROR_UNSAFE",
	StatusUnsupported:          "UNSUPPORTED",
	StatusInvalidParam:         "INVALID_PARAM",
	StatusResourceLimit:        "RESOURCE_LIMIT",
	StatusSecureDataInvalid:    "SECURE_DATA_INVALID",
	StatusInvalidPageSize:      "INVALID_PAGE_SIZE",
	StatusInvalidPageState:     "INVALID_PAGE_STATE",
	StatusInvalidMDataEntry:    "INVALID_MDATA_ENTRY",
	StatusInvalidPageOwner:     "INVALID_PAGE_OWNER",
	StatusAEADOverflow:         "AEAD_OFLOW",
	StatusExitRingBuffer:       "EXIT_RING_BUFFER",
	StatusRMPInitRequired:      "RMP_INIT_REQUIRED",
	StatusBadSVN:               "BAD_SVN",
	StatusBadVersion:           "BAD_VERSION",
	StatusShutdownRequired:     "SHUTDOWN_REQUIRED",
	StatusUpdateFailed:         "UPDATE_FAILED",
	StatusRestoreRequired:      "RESTORE_REQUIRED",
	StatusRMPInitFailed:        "RMP_INIT_FAILED",
	StatusInvalidKey:           "INVALID_KEY",
	StatusShutdownIncomplete:   "SHUTDOWN_INCOMPLETE",
}

// String gives the specification's name, e.g. "BAD_MEASUREMENT".
func (s Status) String() string {
	if n, ok := statusNames[s]; ok {
		return n
	}
	return fmt.Sprintf("status 0x%x", int32(s))
}
