package ovmf

import (
	"encoding/hex"
	"strings"
	"sync"
)

// GUIDKind is what a named GUID stands for.
type GUIDKind string

// Kinds of named GUIDs.
const (
	KindTable  GUIDKind = "table entry"     // in the GUID table of an image, in the kernel hashes or a certificate table
	KindVolume GUIDKind = "firmware volume" // a volume or its file system
	KindFile   GUIDKind = "firmware file"   // a module
)

// NameOf says what a GUID is where EDK2, QEMU or AMD name it.
func NameOf(g GUID) (name string, kind GUIDKind, ok bool) {
	n, ok := guidNames()[g]
	return n.name, n.kind, ok
}

// ParseGUID reads a GUID written 8-4-4-4-12, in either case.
func ParseGUID(s string) (g GUID, ok bool) {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' || strings.Count(s, "-") != 4 {
		return g, false
	}
	if _, err := hex.DecodeString(strings.ReplaceAll(s, "-", "")); err != nil {
		return g, false
	}
	return mustGUID(s), true
}

type guidName struct {
	name string
	kind GUIDKind
}

// guidNames are those of the tables (this package, package hashes, AMD 56421 for
// certificates), of volumes (EDK2 OvmfPkg/*.fdf), and of modules: the name that each carries
// in its user interface section, as in Debian's builds of OVMF 2022.11 and 2026.08.
var guidNames = sync.OnceValue(func() map[GUID]guidName {
	return map[GUID]guidName{
		mustGUID("96b582de-1fb2-45f7-baea-a366c55a082d"): {"footer of the OVMF GUID table", KindTable},
		mustGUID("00f771de-1a7e-4fcb-890e-68c77e2fb44e"): {"SEV-ES reset block, where application processors start", KindTable},
		mustGUID("4c2eb361-7d9b-4cc3-8081-127c90d3d294"): {"SEV secret block, where launch secrets go", KindTable},
		mustGUID("7255371f-3a3b-4b04-927b-1da6efa8d454"): {"SEV_HASH_TABLE_RV, where the kernel hashes table goes", KindTable},
		mustGUID("dc886566-984a-4798-a75e-5585a7bf67cc"): {"SEV metadata, the pages that an SNP launch begins with", KindTable},
		mustGUID("e47a6535-984a-4798-865e-4685a7bf8ec2"): {"TDX metadata", KindTable},
		mustGUID("784fa70e-3176-4677-8a20-04b68699e374"): {"IGVM entry of recent EDK2", KindTable},
		mustGUID("a789a612-0597-4c4b-a49f-cbb1fe9d1ddd"): {"SVSM information, where an SVSM starts", KindTable},
		mustGUID("9438d606-4f22-4cc9-b479-a793d411fd21"): {"kernel hashes table", KindTable},
		mustGUID("97d02dd8-bd20-4c94-aa78-e7714d36ab2a"): {"command line, in the kernel hashes table", KindTable},
		mustGUID("44baf731-3a2f-4bd7-9af1-41e29169781d"): {"initrd, in the kernel hashes table", KindTable},
		mustGUID("4de79437-abd2-427f-b835-d5b172d2045b"): {"kernel, in the kernel hashes table", KindTable},
		mustGUID("63da758d-e664-4564-adc5-f4b93be8accd"): {"VCEK, in a certificate table", KindTable},
		mustGUID("a8074bc2-a25a-483e-aae6-39c045a0b8a1"): {"VLEK, in a certificate table", KindTable},
		mustGUID("4ab7b379-bbac-4fe4-a02f-05aef327c782"): {"ASK, in a certificate table", KindTable},
		mustGUID("c0b406a4-a803-4952-9743-3fb6014cd0ae"): {"ARK, in a certificate table", KindTable},
		mustGUID("92f81bc3-5811-4d3d-97ff-d19f88dc67ea"): {"CRL, in a certificate table", KindTable},

		mustGUID("763bed0d-de9f-48f5-81f1-3e90e1b1a015"): {"SECFV", KindVolume},
		mustGUID("6938079b-b503-4e3d-9d24-b28337a25806"): {"PEIFV", KindVolume},
		mustGUID("7cb8bdc9-f8eb-4f34-aaea-3ee4af6516a1"): {"DXEFV", KindVolume},
		mustGUID("48db5e17-707c-472d-91cd-1613e7ef51b0"): {"FVMAIN_COMPACT", KindVolume},
		mustGUID("8c8ce578-8a3d-4f1c-9935-896185c32dd3"): {"firmware file system, version 2", KindVolume},
		mustGUID("5473c07a-3dcb-4dca-bd6f-1e9689e7349a"): {"firmware file system, version 3", KindVolume},
		mustGUID("fff12b8d-7696-4c8b-a985-2747075b4f50"): {"non-volatile variables", KindVolume},
		mustGUID("ee4e5898-3914-4259-9d6e-dc7bd79403cf"): {"LZMA-compressed section", KindVolume},

		mustGUID("1ba0062e-c779-4582-8566-336ae8f78f09"): {"volume top file, with the reset vector", KindFile},
		mustGUID("1b45cc0a-156a-428a-af62-49864da0e6e6"): {"a priori list of PEI modules", KindFile},
		mustGUID("fc510ee7-ffdc-11d4-bd41-0080c73c8881"): {"a priori list of DXE drivers", KindFile},
		mustGUID("9622e42c-8e38-4a08-9e8f-54f784652f6b"): {"AcpiTableDxe", KindFile},
		mustGUID("2ec9da37-ee35-4de9-86c5-6d9a81dc38a7"): {"AmdSevDxe", KindFile},
		mustGUID("529d3f93-e8e9-4e73-b1e1-bdf6a9d50113"): {"ArpDxe", KindFile},
		mustGUID("5e523cb4-d397-4986-87bd-a6dd8b22f455"): {"AtaAtapiPassThruDxe", KindFile},
		mustGUID("19df145a-b1d4-453f-8507-38816676d7f6"): {"AtaBusDxe", KindFile},
		mustGUID("6d33944a-ec75-4855-a54d-809c75241f6c"): {"BdsDxe", KindFile},
		mustGUID("b8e62775-bb0a-43f0-a843-5be8b14f8ccd"): {"BootGraphicsResourceTableDxe", KindFile},
		mustGUID("eec25bdc-67f2-4d95-b1d5-f81b2039d11d"): {"BootManagerMenuApp", KindFile},
		mustGUID("fa20568b-548b-4b2b-81ef-1ba08d4a3cec"): {"BootScriptExecutorDxe", KindFile},
		mustGUID("42857f0a-13f2-4b21-8a23-53d3f714b840"): {"CapsuleRuntimeDxe", KindFile},
		mustGUID("51ccf399-4fdf-4e55-a45b-e123f84d456a"): {"ConPlatformDxe", KindFile},
		mustGUID("408edcec-cf6d-477c-a5a8-b4844e3de281"): {"ConSplitterDxe", KindFile},
		mustGUID("1a1e4886-9517-440e-9fde-3be44cee2136"): {"CpuDxe", KindFile},
		mustGUID("6490f1c5-ebcc-4665-8892-0075b9bb49b7"): {"CpuDxe", KindFile},
		mustGUID("a19b1fe7-c1bc-49f8-875f-54a5d542443f"): {"CpuIo2Dxe", KindFile},
		mustGUID("edadeb9d-ddba-48bd-9d22-c1c169c8c5c6"): {"CpuMpPei", KindFile},
		mustGUID("280251c4-1d09-4035-9062-839acb5f18c1"): {"CpuMpPei", KindFile},
		mustGUID("29e54f5e-365a-4235-ba62-c832d7660852"): {"CxlDxe", KindFile},
		mustGUID("9b680fce-ad6b-4f3a-b60b-f59899003443"): {"DevicePathDxe", KindFile},
		mustGUID("94734718-0bbc-47fb-96a5-ee7a5ae6a2ad"): {"Dhcp4Dxe", KindFile},
		mustGUID("95e3669d-34be-4775-a651-7ea41b69d89e"): {"Dhcp6Dxe", KindFile},
		mustGUID("6b38f7b4-ad98-40e9-9093-aca2b5a253c4"): {"DiskIoDxe", KindFile},
		mustGUID("e660ea85-058e-4b55-a54b-f02f83a24707"): {"DisplayEngine", KindFile},
		mustGUID("b219e140-dffc-11e3-b956-0022681e6906"): {"DnsDxe", KindFile},
		mustGUID("a210f973-229d-4f4d-aa37-9895e6c9eaba"): {"DpcDxe", KindFile},
		mustGUID("ebf8ed7c-0dd1-4787-84f1-f48d537dcacf"): {"DriverHealthManagerDxe", KindFile},
		mustGUID("d6a2cb7f-6a18-4e2f-b43b-9920a733700a"): {"DxeCore", KindFile},
		mustGUID("86d70125-baa3-4296-a62f-602bebbb9081"): {"DxeIpl", KindFile},
		mustGUID("13ac6dd0-73d0-11d4-b06b-00aa00bd6de7"): {"EbcDxe", KindFile},
		mustGUID("bdfe430e-8f2a-4db0-9991-6f856594777e"): {"EhciDxe", KindFile},
		mustGUID("2145f72f-e6f1-4440-a828-59dc9aab5f89"): {"EmmcDxe", KindFile},
		mustGUID("22dc2b60-fe40-42ac-b01f-3ab1fad9aad8"): {"EmuVariableFvbRuntimeDxe", KindFile},
		mustGUID("cd3bafb6-50fb-4fe8-8e4e-ab74d2c1a600"): {"EnglishDxe", KindFile},
		mustGUID("961578fe-b6b7-44c3-af35-6bc705cd2b1f"): {"Fat", KindFile},
		mustGUID("fe5cea76-4f72-49e8-986f-2cd899dffe5d"): {"FaultTolerantWriteDxe", KindFile},
		mustGUID("733cbac2-b23f-4b92-bc8e-fb01ce5907b7"): {"FvbServicesRuntimeDxe", KindFile},
		mustGUID("cccb0c28-4b24-11d5-9a5a-0090273fc14d"): {"GraphicsConsoleDxe", KindFile},
		mustGUID("b5ae312c-bc8a-43b1-9c62-ebb826dd5d07"): {"Grub", KindFile},
		mustGUID("63e3bdcf-2ac7-4ac0-9b92-03a7541422ff"): {"Hash2DxeCrypto", KindFile},
		mustGUID("348c4d62-bfbd-4882-9ece-c80bb1c4783b"): {"HiiDatabase", KindFile},
		mustGUID("ecebcb00-d9c8-11e4-af3d-8cdcd426c973"): {"HttpBootDxe", KindFile},
		mustGUID("2366c20f-e15a-11e3-8bf1-e4115b28bc50"): {"HttpDxe", KindFile},
		mustGUID("22ea234f-e72a-11e4-91f9-28d2447c4829"): {"HttpUtilitiesDxe", KindFile},
		mustGUID("86cddf93-4872-4597-8af9-a35ae4d3725f"): {"IScsiDxe", KindFile},
		mustGUID("f6697ac4-a776-4ee1-b643-1feff2b615bb"): {"IncompatiblePciDeviceSupportDxe", KindFile},
		mustGUID("8657015b-ea43-440d-949a-af3be365c0fc"): {"IoMmuDxe", KindFile},
		mustGUID("9fb1a1f3-3b71-4324-b39a-745cbb015fff"): {"Ip4Dxe", KindFile},
		mustGUID("5bedb5cc-d830-4eb2-8742-2d4cc9b54f2c"): {"Ip6Dxe", KindFile},
		mustGUID("2f30da26-f51b-4b6f-85c4-31873c281bca"): {"LinuxInitrdDynamicShellCommand", KindFile},
		mustGUID("52fe8196-f9de-4d07-b22f-51f77a0e7c41"): {"LocalApicTimerDxe", KindFile},
		mustGUID("f74d20ee-37e7-48fc-97f7-9b1047749c69"): {"LogoDxe", KindFile},
		mustGUID("c8339973-a563-4561-b858-d8476f9defc4"): {"Metronome", KindFile},
		mustGUID("025bbfc7-e6a9-4b8b-82ad-6815a1aeaf4a"): {"MnpDxe", KindFile},
		mustGUID("ad608272-d07f-4964-801e-7bd3b7888652"): {"MonotonicCounterRuntimeDxe", KindFile},
		mustGUID("dc3641b8-2fa8-4ed3-bc1f-f9962a03454b"): {"Mtftp4Dxe", KindFile},
		mustGUID("99f03b99-98d8-49dd-a8d3-3219d0ffe41e"): {"Mtftp6Dxe", KindFile},
		mustGUID("96b5c032-df4c-4b6e-8232-438dcf448d0e"): {"NullMemoryTestDxe", KindFile},
		mustGUID("5be3bdf4-53cf-46a3-a6a9-73c34a6e5ee3"): {"NvmExpressDxe", KindFile},
		mustGUID("1fa1f39e-feff-4aae-bd7b-38a070a3b609"): {"PartitionDxe", KindFile},
		mustGUID("378d7b65-8da9-4773-b6e4-a47826a833e1"): {"PcRtc", KindFile},
		mustGUID("80cf7257-87ab-47f9-a3fe-d50b76d89541"): {"PcdDxe", KindFile},
		mustGUID("9b3ada4f-ae56-4c24-8dea-f03b7558ae50"): {"PcdPeim", KindFile},
		mustGUID("93b80004-9fb3-11d4-9a3a-0090273fc14d"): {"PciBusDxe", KindFile},
		mustGUID("128fb770-5e79-4176-9e51-9bb268a17dd1"): {"PciHostBridgeDxe", KindFile},
		mustGUID("11a6edf6-a9be-426d-a6cc-b22fe51d9224"): {"PciHotPlugInitDxe", KindFile},
		mustGUID("e2775b47-d453-4ee3-ada7-391a1b05ac17"): {"PciSioSerialDxe", KindFile},
		mustGUID("52c05b14-0b98-496c-bc3b-04b50211d680"): {"PeiCore", KindFile},
		mustGUID("d9dcc5df-4007-435e-9098-8970935504b2"): {"PlatformDxe", KindFile},
		mustGUID("222c386d-5abc-4fb4-b124-fbb82488acf4"): {"PlatformPei", KindFile},
		mustGUID("c4d1f932-821f-4744-bf06-6d30f7730f8d"): {"Ps2KeyboardDxe", KindFile},
		mustGUID("17985e6f-e778-4d94-aefa-c5dd2b77e186"): {"QemuFwCfgAcpiPlatform", KindFile},
		mustGUID("806040ca-dad9-4978-a3b4-2d2ab0c8a48f"): {"QemuKernelLoaderFsDxe", KindFile},
		mustGUID("dce1b094-7dc6-45d0-9fdd-d7fc3cc3e4ef"): {"QemuRamfbDxe", KindFile},
		mustGUID("e3752948-b9a1-4770-90c4-df41c38986be"): {"QemuVideoDxe", KindFile},
		mustGUID("28a03ff4-12b3-4305-a417-bb1a4f94081e"): {"RamDiskDxe", KindFile},
		mustGUID("a3610442-e69f-4df3-82ca-2360c4031a23"): {"ReportStatusCodeRouterPei", KindFile},
		mustGUID("d93ce3d8-a7eb-4730-8c8e-cc466a9ecc3c"): {"ReportStatusCodeRouterRuntimeDxe", KindFile},
		mustGUID("4b28e4c7-ff36-4e10-93cf-a82159e777c5"): {"ResetSystemRuntimeDxe", KindFile},
		mustGUID("b981a835-6ee8-4f4c-ae0b-210aa0bfbf01"): {"RngDxe", KindFile},
		mustGUID("b601f8c4-43b7-4784-95b1-f4226cb40cee"): {"RuntimeDxe", KindFile},
		mustGUID("89e549b0-7cfe-449d-9ba3-10d8b2312d71"): {"S3Resume2Pei", KindFile},
		mustGUID("bdce85bb-fbaa-4f4e-9264-501a2c249581"): {"S3SaveStateDxe", KindFile},
		mustGUID("820c59bb-274c-43b2-83ea-dac673035a59"): {"SataController", KindFile},
		mustGUID("021722d8-522b-4079-852a-fe44c2c13f49"): {"SataController", KindFile},
		mustGUID("0167ccc4-d0f7-4f21-a3ef-9e64b7cdce8b"): {"ScsiBus", KindFile},
		mustGUID("0a66e322-3740-4cce-ad62-bd172cecca35"): {"ScsiDisk", KindFile},
		mustGUID("430ac2f7-eec6-4093-94f7-9f825a7c1c40"): {"SdDxe", KindFile},
		mustGUID("8e325979-3fe1-4927-aae2-8f5c4bd2af0d"): {"SdMmcPciHcDxe", KindFile},
		mustGUID("df1ccef6-f301-4a63-9661-fc6030dcc880"): {"SecMain", KindFile},
		mustGUID("6e2b9619-8810-4e9d-a177-d432bb9abeda"): {"SecretDxe", KindFile},
		mustGUID("45260dde-0c3c-4b41-a226-ef3803fac7d4"): {"SecretPei", KindFile},
		mustGUID("f0e6a44f-7195-41c3-ac64-54f202cd0a21"): {"SecureBootConfigDxe", KindFile},
		mustGUID("f80697e9-7fd6-4665-8646-88e33ef71dfc"): {"SecurityStubDxe", KindFile},
		mustGUID("ebf342fe-b1d3-4ef8-957c-8048606ff671"): {"SetupBrowser", KindFile},
		mustGUID("7c04a583-9e3e-4f1c-ad65-e05268d0b4d1"): {"Shell", KindFile},
		mustGUID("864e1ca8-85eb-4d63-9dcc-6e0fc90ffd55"): {"SioBusDxe", KindFile},
		mustGUID("f9d88642-0737-49bc-81b5-6889cd57d9ea"): {"SmbiosDxe", KindFile},
		mustGUID("d27fed59-abb4-4fed-bead-2a878c7e4a7e"): {"SmbiosMeasurementDxe", KindFile},
		mustGUID("4110465d-5ff3-4f4b-b580-24ed0d06747a"): {"SmbiosPlatformDxe", KindFile},
		mustGUID("a2f436ea-a127-4ef8-957c-8048606ff670"): {"SnpDxe", KindFile},
		mustGUID("9d225237-fa01-464c-a949-baabc02d31d0"): {"StatusCodeHandlerPei", KindFile},
		mustGUID("6c2004ef-4e0e-4be4-b14c-340eb4aa5891"): {"StatusCodeHandlerRuntimeDxe", KindFile},
		mustGUID("4d9cbef0-15a0-4d0c-83db-5213e710c23f"): {"Tcg2ConfigDxe", KindFile},
		mustGUID("8ad3148f-945f-46b4-8acd-71469ea73945"): {"Tcg2ConfigPei", KindFile},
		mustGUID("fdff263d-5f68-4591-87ba-b768f445a9af"): {"Tcg2Dxe", KindFile},
		mustGUID("a0c98b77-cba5-4bb8-993b-4af6ce33ece4"): {"Tcg2Pei", KindFile},
		mustGUID("5cab08d5-ad8f-4d8b-b828-d17a8d9fe977"): {"Tcg2PlatformDxe", KindFile},
		mustGUID("47727552-a54b-4a84-8cc1-bff23e239636"): {"Tcg2PlatformPei", KindFile},
		mustGUID("a5683620-7998-4bb2-a377-1c1e31e1e215"): {"TcgDxe", KindFile},
		mustGUID("ad416ce3-a483-45b1-94c2-4b4e4d575562"): {"TcgMor", KindFile},
		mustGUID("2be1e4a6-6505-43b3-9ffc-a3c8330e0432"): {"TcgPei", KindFile},
		mustGUID("1a7e4468-2f55-4a56-903c-01265eb7622b"): {"TcpDxe", KindFile},
		mustGUID("f062221e-c607-44c2-b0b4-c3886331d351"): {"TdTcg2Dxe", KindFile},
		mustGUID("fcb3a3d6-6274-411c-a548-bd0e717d533a"): {"TdTcg2Pei", KindFile},
		mustGUID("e750224e-7bce-40af-b5bb-47e3611eb5c2"): {"TdxDxe", KindFile},
		mustGUID("9e863906-a40f-4875-977f-5b93ff237fc6"): {"TerminalDxe", KindFile},
		mustGUID("7ca1024f-eb17-11e5-9dba-28d2447c4829"): {"TlsAuthConfigDxe", KindFile},
		mustGUID("3aceb0c0-3c72-11e4-9a56-74d435052646"): {"TlsDxe", KindFile},
		mustGUID("f12f698a-e506-4a1b-b32e-6920e55da1c4"): {"TpmMmioSevDecryptPei", KindFile},
		mustGUID("905f13b0-8f91-4b0a-bd76-e1e78f9422e4"): {"UdfDxe", KindFile},
		mustGUID("6d6963ab-906d-4a65-a7ca-bd40e5d6af2b"): {"Udp4Dxe", KindFile},
		mustGUID("d912c7bc-f098-4367-92ba-e911083c7b0e"): {"Udp6Dxe", KindFile},
		mustGUID("b95e9fda-26de-48d2-8807-1f9107ac5e3a"): {"UefiPxeBcDxe", KindFile},
		mustGUID("2fb92efa-2ee0-4bae-9eb6-7464125e1ef7"): {"UhciDxe", KindFile},
		mustGUID("462caa21-7614-4503-836e-8ab6f4662331"): {"UiApp", KindFile},
		mustGUID("240612b7-a063-11d4-9a3a-0090273fc14d"): {"UsbBusDxe", KindFile},
		mustGUID("2d2e62cf-9ecf-43b7-8219-94e7fc713dfe"): {"UsbKbDxe", KindFile},
		mustGUID("9fb4b4a7-42c0-4bcd-8540-9bcc6711f83e"): {"UsbMassStorageDxe", KindFile},
		mustGUID("17d0ef2a-5933-4007-8950-5749169d3dc5"): {"VariablePolicyDynamicCommand", KindFile},
		mustGUID("cbd2e4d5-7068-4ff5-b462-9822b4ad8d60"): {"VariableRuntimeDxe", KindFile},
		mustGUID("60740cf3-d428-4500-80e6-04a5798241ed"): {"VirtHstiDxe", KindFile},
		mustGUID("0170f60c-1d40-4651-956d-f0bd9879d527"): {"Virtio10", KindFile},
		mustGUID("11d92dfb-3ca9-4f93-ba2e-4780ed3e03b5"): {"VirtioBlkDxe", KindFile},
		mustGUID("7bd9ddf7-8b83-488e-aec9-24c78610289c"): {"VirtioFsDxe", KindFile},
		mustGUID("d6099b94-cd97-4cc5-8714-7f6312701a8a"): {"VirtioGpuDxe", KindFile},
		mustGUID("f141b1e5-9c7c-44cc-afaa-e87d7689b113"): {"VirtioInputDxe", KindFile},
		mustGUID("a92cdb4b-82f1-4e0b-a516-8a655d371524"): {"VirtioNetDxe", KindFile},
		mustGUID("83dd3b39-7caf-4fac-a542-e050b767e3a7"): {"VirtioPciDeviceDxe", KindFile},
		mustGUID("58e26f0d-cbac-4bba-b70f-18221415665a"): {"VirtioRngDxe", KindFile},
		mustGUID("fab5d4f4-83c0-4aaf-8480-442d11df6cea"): {"VirtioScsiDxe", KindFile},
		mustGUID("23cace14-eba4-49f6-9681-c697ff0b649e"): {"VirtioSerialDxe", KindFile},
		mustGUID("e4f61863-fe2c-4b56-a8f4-08519bc439df"): {"VlanConfigDxe", KindFile},
		mustGUID("f099d67f-71ae-4c36-b2a3-dceb0eb2b7d8"): {"WatchdogTimer", KindFile},
		mustGUID("f6394dd2-bafd-4d8e-999e-7590df8fc546"): {"WsmtDxe", KindFile},
		mustGUID("b7f50e91-a759-412c-ade4-dcd03e7f7c28"): {"XhciDxe", KindFile},
		mustGUID("19618bce-55ae-09c6-37e9-4ce04084c7a1"): {"httpDynamicCommand", KindFile},
		mustGUID("a487a478-51ef-48aa-8794-7bee2a0562f1"): {"tftpDynamicCommand", KindFile},
	}
})
