//! Packing images: rootfs images, images with a Wasm layer, CNCF Wasm artifacts; to OCI layouts, archives and registries.
